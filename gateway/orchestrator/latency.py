"""How long targets take to answer lately, for routes that ask the quickest one.

Peak-sensitive moving averages, as Finagle's load balancer keeps them: a slow answer counts at once,
and is forgotten slowly. Each gateway learns for itself.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# After so long without news half of what was learned is forgotten.
HALF_LIFE_SECONDS = 10.0


@dataclass
class _Heard:
    seconds: float = 0.0
    at: float = 0.0
    asked: int = 0


@dataclass
class Latencies:
    """By label; what nothing is known of costs nothing, so that it is tried."""

    clock: Callable[[], float] = time.monotonic
    _by_label: dict[str, _Heard] = field(default_factory=dict)

    @contextmanager
    def asking(self, label: str) -> Iterator[None]:
        """While a target is asked. An answer's time is learned; a failure is not its time."""
        heard = self._by_label.setdefault(label, _Heard())
        began = self.clock()
        heard.asked += 1
        try:
            yield
        finally:
            heard.asked -= 1
        self._learn(heard, self.clock() - began)

    def _learn(self, heard: _Heard, seconds: float) -> None:
        now = self.clock()
        kept = math.exp2(-(now - heard.at) / HALF_LIFE_SECONDS) if heard.at else 0.0
        heard.seconds = max(seconds, heard.seconds * kept + seconds * (1 - kept))
        heard.at = now

    def cost(self, label: str) -> float:
        """What one more request would wait for, about."""
        heard = self._by_label.get(label)
        if heard is None:
            return 0.0
        kept = math.exp2(-(self.clock() - heard.at) / HALF_LIFE_SECONDS)
        return heard.seconds * kept * (heard.asked + 1)
