"""The states of a batch, as OpenAI has them. Pure."""

LIVE = ("validating", "in_progress", "finalizing", "cancelling")
# Out of which a cancel leads somewhere.
CANCELLABLE = ("validating", "in_progress")
ENDPOINTS = ("/v1/chat/completions", "/v1/completions")
WINDOW_SECONDS = 24 * 3600
