"""What was counted under a name in the last sixty seconds. Knows no Redis and no HTTP.

What comes within one second of the clock is counted together, and is forgotten sixty seconds after
the last of it: no sixty seconds ever see more than was allowed, and whoever waits as long as told
finds room. `minute.lua` does the same in Redis; tests hold both against each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

# Milliseconds.
MINUTE = 60_000
SECOND = 1_000


@dataclass(frozen=True)
class Amount:
    """To be counted under ``name``, where no more than ``limit`` is in any minute."""

    name: str
    amount: int
    limit: int


@dataclass(frozen=True)
class Counted:
    """How a name stands: ``used`` in the last minute; for so long (milliseconds) what was asked for
    does not fit (``wait``), and not all of it is there again (``reset``)."""

    used: int
    wait: int
    reset: int


@dataclass
class _Together:
    """Counted in the same second; ``last``: the moment of the last of it."""

    amount: int
    last: int


@dataclass
class Minute:
    """One name. All times in milliseconds of one clock."""

    seconds: dict[int, _Together] = field(default_factory=dict)
    used: int = 0
    newest: int = 0

    def look(self, now: int) -> int:
        """Forget what is older than a minute. The time that counts: a clock that was put back a
        little stands still meanwhile."""
        if abs(now - self.newest) >= MINUTE:
            self.seconds, self.used, self.newest = {}, 0, 0
            return now
        now = max(now, self.newest)
        for second in list(self.seconds):
            if self.seconds[second].last + MINUTE > now:
                break
            self.used -= self.seconds.pop(second).amount
        return now

    def wait(self, wanted: Amount, now: int) -> int:
        """Until it fits, if nobody else comes."""
        needed = self.used + wanted.amount - wanted.limit
        wait = 0
        for together in self.seconds.values():
            if needed <= 0:
                break
            needed -= together.amount
            wait = together.last + MINUTE - now
        return wait

    def add(self, amount: int, now: int) -> None:
        together = self.seconds.setdefault(now // SECOND, _Together(0, now))
        together.amount += amount
        together.last = self.newest = now
        self.used += amount

    def change(self, second: int, amount: int) -> None:
        """Put right what was counted in that second, unless it is forgotten."""
        together = self.seconds.get(second)
        if together is not None:
            changed = max(0, together.amount + amount)
            self.used += changed - together.amount
            together.amount = changed


def take(minutes: Sequence[Minute], wanted: Sequence[Amount], now: int) -> list[Counted]:
    """Count all of it, or nothing where one does not fit (its ``wait`` is not 0)."""
    times = [minute.look(now) for minute in minutes]
    waits = [
        minute.wait(amount, time)
        for minute, amount, time in zip(minutes, wanted, times, strict=True)
    ]
    if not any(waits):
        for minute, amount, time in zip(minutes, wanted, times, strict=True):
            minute.add(amount.amount, time)
    return [
        Counted(minute.used, wait, max(0, minute.newest + MINUTE - time))
        for minute, wait, time in zip(minutes, waits, times, strict=True)
    ]
