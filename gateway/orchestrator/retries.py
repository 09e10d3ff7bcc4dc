"""When a target is asked once more, and how often that may be. Knows no HTTP.

Retries multiply the load of a service that is in trouble. So each target has a budget, as gRPC's
retry throttling has it (proposal A6): every failure costs a token, every success gives a tenth of
one back, and below half of the tokens nothing is asked twice. In the long run at most one request
in ten is asked again.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field

from shared.errors import GenPlatError, TooManyRequests, Unavailable, UpstreamFailed

TOKENS = 10.0
GIVEN_BACK = 0.1
FIRST_DELAY_SECONDS = 0.2
# Whoever has nobody else to ask waits so long for a 429 to be over.
LONGEST_WAIT_SECONDS = 2.0
_jitter = random.SystemRandom()


@dataclass
class RetryBudget:
    """Of one target."""

    tokens: float = TOKENS

    def failed(self) -> None:
        self.tokens = max(0.0, self.tokens - 1)

    def succeeded(self) -> None:
        self.tokens = min(TOKENS, self.tokens + GIVEN_BACK)

    @property
    def allows(self) -> bool:
        return self.tokens > TOKENS / 2


@dataclass
class RetryBudgets:
    """Those of all targets, by label."""

    _by_label: dict[str, RetryBudget] = field(default_factory=lambda: defaultdict(RetryBudget))

    def of(self, label: str) -> RetryBudget:
        return self._by_label[label]


def delay_before(error: GenPlatError, retry: int, *, is_last: bool) -> float | None:
    """Seconds to wait before the same target is asked for the ``retry``-th time again; None where
    that would not help, or where another target can be asked at once instead."""
    if isinstance(error, TooManyRequests):
        wait = error.retry_after or FIRST_DELAY_SECONDS
        return wait if is_last and wait <= LONGEST_WAIT_SECONDS else None
    if not isinstance(error, (Unavailable, UpstreamFailed)):
        # A timeout has cost enough; all else is the request's own fault.
        return None
    if error.retry_after is not None:
        # It says itself when.
        wait = error.retry_after
        return wait if is_last and wait <= LONGEST_WAIT_SECONDS else None
    return FIRST_DELAY_SECONDS * float(2 ** (retry - 1)) * _jitter.uniform(0.5, 1)
