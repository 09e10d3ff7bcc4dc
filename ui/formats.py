"""How values read on a page: times, numbers, durations, sizes. Pure functions of their value."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from shared.route_labels import label_of

MISSING = "–"


def number(value: float | None) -> str:
    """``12,345``; a fraction keeps at most two digits."""
    if value is None:
        return MISSING
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.2f}"
    return f"{int(value):,}"


def compact(value: float | None) -> str:
    """``134.5M``, ``8.2K``: for parameters and tokens, where the size counts."""
    if value is None:
        return MISSING
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= limit:
            return f"{value / limit:.1f}".removesuffix(".0") + letter
    return number(value if abs(value) < 10 else round(value))


def loss(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def percent(value: float | None) -> str:
    """Of a share: ``81.3%``."""
    return MISSING if value is None else f"{100 * value:.1f}%"


def small(value: float | None) -> str:
    """Learning rates and the like: ``0.001``, ``5e-04``."""
    if value is None:
        return MISSING
    return f"{value:g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def size(value: int | None) -> str:
    """``1.4 MB``: decimal units, as file managers show."""
    if value is None:
        return MISSING
    amount, unit = float(value), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{int(amount)} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds is None:
        return MISSING
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    if total < 86_400:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 86_400} d {total % 86_400 // 3600} h"


def latency(seconds: float | None) -> str:
    """``85 ms``, ``2.4 s``, then as other durations."""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def iso(value: datetime) -> str:
    """For the ``datetime`` attribute."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(value: datetime | None) -> str:
    """``2 Nov 2026, 14:05 UTC``."""
    if value is None:
        return MISSING
    utc = value.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M} UTC"


def clock(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%H:%M:%S")


def ago(value: datetime | None, now: datetime | None = None) -> str:
    """``just now``, ``5 min ago``, ``3 h ago``, then the date."""
    if value is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - value).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86_400:
        return f"{int(seconds // 3600)} h ago"
    if seconds < 7 * 86_400:
        return f"{int(seconds // 86_400)} d ago"
    return moment(value).split(",", maxsplit=1)[0]


def plural(count: int, one: str, many: str = "") -> str:
    """``1 row``, ``2 rows``."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """A message that follows "Line 3: " elsewhere, standing alone."""
    return text[:1].upper() + text[1:]


def short_model(model_id: str) -> str:
    """The part of a base model's id that people say: what comes after the organisation."""
    return model_id.rsplit("/", maxsplit=1)[-1]


def method_name(method: str) -> str:
    return {"full": "full training", "lora": "LoRA", "qlora": "QLoRA"}.get(method, method)


def share(value: float) -> str:
    """Of a step of a migration: ``shadow``, ``10%``."""
    return "shadow" if value == 0 else f"{100 * value:g}%"


class Ends(NamedTuple):
    """A text without its middle; ``hidden`` counts the characters that are left out."""

    first: str
    hidden: int
    last: str


def ends(text: str, most: int) -> Ends:
    """About ``most`` characters of a text, so that what comes behind it is seen too."""
    hidden = len(text) - most
    if hidden <= most // 2:
        return Ends(text, 0, "")
    return Ends(text[: most // 2], hidden, text[-(most // 2) :])


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "compact": compact,
    "loss": loss,
    "percent": percent,
    "small": small,
    "size": size,
    "duration": duration,
    "latency": latency,
    "iso": iso,
    "moment": moment,
    "clock": clock,
    "ago": ago,
    "plural": plural,
    "sentence": sentence,
    "ends": ends,
    "route_label": label_of,
    "share": share,
    "short_model": short_model,
    "method_name": method_name,
}
