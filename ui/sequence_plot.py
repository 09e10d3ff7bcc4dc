"""An interval that narrows as units come in, as the lines of a drawing. Pure."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 600, 200


class SequencePlot(NamedTuple):
    """Points of SVG lines in a drawing of `WIDTH` by `HEIGHT`. ``band`` lies between the
    interval's ends, ``null`` and ``zero`` are heights; the texts stand at the axes."""

    band: str
    line: str
    null: float
    zero: float
    top: str
    middle: str
    bottom: str
    right: str
    description: str


def sequence_plot(
    looks: Sequence[Any],
    *,
    null: float,
    needed: int | None,
    text: Callable[[float], str],
    farthest: float = math.inf,
) -> SequencePlot | None:
    """``looks`` have ``units``, ``difference``, ``low`` and ``high``; None where nothing has come
    yet. ``needed`` units are shown, if they are not too far off. ``text`` writes a difference, and
    none is beyond ``farthest``."""
    seen = [look for look in looks if look.units and look.difference is not None]
    if not seen:
        return None
    last = seen[-1]
    # The first intervals say nothing, and would make the last ones too small to see.
    shown = max(abs(last.low), abs(last.high), abs(null), abs(last.difference), 1e-6)
    reach = min(1.4 * shown, farthest)
    most = max(last.units, needed if needed and needed < 4 * last.units else 0)

    def x(units: float) -> float:
        return float(round(units / most * WIDTH, 1))

    def y(difference: float) -> float:
        inside = max(-reach, min(reach, difference))
        return float(round((1 - inside / reach) / 2 * HEIGHT, 1))

    upper = [(x(look.units), y(look.high)) for look in seen]
    lower = [(x(look.units), y(look.low)) for look in reversed(seen)]
    if len(seen) == 1:
        # A band needs a width.
        upper.insert(0, (0.0, upper[0][1]))
        lower.append((0.0, lower[0][1]))
    return SequencePlot(
        band=_points([*upper, *lower]),
        line=_points([(x(look.units), y(look.difference)) for look in seen]),
        null=y(null),
        zero=y(0),
        top=text(reach),
        middle="0",
        bottom=text(-reach),
        right=f"{most:,} units",
        description=(
            f"After {last.units:,} units the difference is {text(last.difference)}, and lies "
            f"between {text(last.low)} and {text(last.high)}."
        ),
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
