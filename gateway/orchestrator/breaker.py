"""Keeps requests from a target that fails: a circuit breaker each, in this process's memory.

Closed: all pass. Open, after some failures in a row or a 429 that says when to come back: none
pass until the time is over. Half-open: one probe passes; its end closes the breaker or opens it
for longer. Several gateways learn for themselves. (Libraries were looked at: theirs wrap a call,
and an answer that breaks off in the middle fails after its call has ended.)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]

FAILURES = 3
COOLDOWN_SECONDS = 5.0
LONGEST_SECONDS = 120.0
# A probe of which nothing is heard gives its place up.
PROBE_SECONDS = 60.0


@dataclass
class Breaker:
    """Of one target. Times are those of ``clock``, in seconds."""

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    opened: int = 0
    open_until: float = 0.0
    probing_since: float | None = None
    reason: str | None = None

    @property
    def state(self) -> BreakerState:
        if not self.opened:
            return "closed"
        return "open" if self.clock() < self.open_until else "half_open"

    def admits(self) -> bool:
        """Whether a request may pass now; in half-open it is the probe then."""
        state = self.state
        if state != "half_open":
            return state == "closed"
        now = self.clock()
        if self.probing_since is not None and now < self.probing_since + PROBE_SECONDS:
            return False
        self.probing_since = now
        return True

    def succeeded(self) -> None:
        self.failures = self.opened = 0
        self.probing_since = self.reason = None

    def left(self) -> None:
        """A request ended for reasons that say nothing of the target."""
        self.probing_since = None

    def failed(
        self, reason: str, *, retry_after: float | None = None, cooldown: float = COOLDOWN_SECONDS
    ) -> None:
        """``retry_after``: seconds after which the target wants to be asked again; ``cooldown``:
        the first rest where it does not say."""
        self.failures += 1
        self.reason = reason
        was_probe, self.probing_since = self.probing_since is not None, None
        if not (was_probe or retry_after or self.failures >= FAILURES):
            return
        if self.opened and not was_probe and self.state == "open":
            # Those that were under way when it opened say nothing new.
            return
        self.opened += 1
        rest = retry_after or cooldown * 2 ** (self.opened - 1)
        self.open_until = self.clock() + min(rest, max(cooldown, LONGEST_SECONDS))


@dataclass
class Breakers:
    """Those of all targets, by label. Made as they are asked for."""

    clock: Callable[[], float] = time.monotonic
    _by_label: dict[str, Breaker] = field(default_factory=dict)

    def of(self, label: str) -> Breaker:
        if label not in self._by_label:
            self._by_label[label] = Breaker(self.clock)
        return self._by_label[label]

    def known(self) -> list[tuple[str, Breaker]]:
        return list(self._by_label.items())
