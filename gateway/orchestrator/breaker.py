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
# After a day without an answer the number would be larger than any float.
_MOST_DOUBLINGS = 30


@dataclass
class Breaker:
    """Of one target. Times are those of ``clock``, in seconds."""

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    opened: int = 0
    open_until: float = 0.0
    reason: str | None = None
    # It rises whenever the breaker opens or closes: what began before says nothing of the time now.
    turn: int = 0
    probe: "Visit | None" = None

    @property
    def state(self) -> BreakerState:
        if not self.opened:
            return "closed"
        return "open" if self.clock() < self.open_until else "half_open"

    def visit(self) -> "Visit":
        """A request that wants to pass; in half-open the first one is the probe."""
        state, now = self.state, self.clock()
        visit = Visit(self, state == "closed", self.turn, now)
        waits = self.probe is not None and now < self.probe.began + PROBE_SECONDS
        if state == "half_open" and not waits:
            visit.admitted = True
            self.probe = visit
        return visit

    def open(self, reason: str, rest: float, longest: float) -> None:
        self.reason, self.probe = reason, None
        self.opened += 1
        self.turn += 1
        self.open_until = self.clock() + min(rest, longest)

    def close(self) -> None:
        self.failures = 0
        if self.opened:
            self.turn += 1
        self.opened, self.reason, self.probe = 0, None, None


@dataclass(eq=False)
class Visit:
    """One request at a target. How it ended is said once: what is said later is not heard.
    ``admitted``: whether the breaker let it pass."""

    breaker: Breaker
    admitted: bool
    turn: int
    began: float
    over: bool = False

    def succeeded(self) -> None:
        """Also where it was asked against the breaker's will, there being nobody else."""
        if self._ends() and self.turn == self.breaker.turn:
            self.breaker.close()

    def left(self) -> None:
        """It ended for reasons that say nothing of the target."""
        if self._ends() and self.breaker.probe is self:
            self.breaker.probe = None

    def failed(
        self, reason: str, *, retry_after: float | None = None, cooldown: float = COOLDOWN_SECONDS
    ) -> None:
        """``retry_after``: seconds after which the target wants to be asked again; ``cooldown``:
        the first rest where it does not say."""
        breaker = self.breaker
        if not self._ends() or self.turn != breaker.turn:
            return
        is_probe = breaker.probe is self
        if breaker.opened and not is_probe:
            return
        breaker.failures += 1
        breaker.reason = reason
        if is_probe or retry_after or breaker.failures >= FAILURES:
            rest = retry_after or cooldown * 2 ** min(breaker.opened, _MOST_DOUBLINGS)
            breaker.open(reason, rest, max(cooldown, LONGEST_SECONDS))

    def _ends(self) -> bool:
        was_over, self.over = self.over, True
        return not was_over


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
