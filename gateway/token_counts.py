"""How many tokens a request may take, before anybody has counted, and how many it took. Pure."""

from collections.abc import Mapping
from typing import Any

from shared.chat import ChatRequest, CompletionRequest

# Of texts in most languages; what is written is known exactly afterwards.
CHARACTERS_PER_TOKEN = 4
# Where a request does not say how much may be written.
USUAL_ANSWER = 512
# More than this no answer takes, whatever a service LLM says.
MOST_TOKENS = 1_000_000_000


def tokens_of(request: ChatRequest | CompletionRequest) -> tuple[int, int]:
    """About how many tokens a request has read, and how many it may have written."""
    if isinstance(request, ChatRequest):
        characters = sum(len(message.text) for message in request.messages)
    else:
        characters = len(request.prompt)
    return 1 + characters // CHARACTERS_PER_TOKEN, request.new_token_limit or USUAL_ANSWER


def total_in(answer: Mapping[str, Any]) -> int | None:
    """What an answer, or the last event of one, says that it took; None where it does not."""
    usage = answer.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    right = isinstance(total, int) and not isinstance(total, bool) and 0 <= total <= MOST_TOKENS
    return total if right else None
