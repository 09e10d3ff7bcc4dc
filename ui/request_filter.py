"""The form that says which requests of the log are shown: texts to conditions, and to links."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

FIELDS = (
    "q", "model", "route", "served_by", "outcome", "fallback", "feedback", "kind", "key_id", "tag",
    "since", "until", "shadow",
)  # fmt: skip
# Those that the form shows at once; the others lie behind a fold.
FIRST = ("q", "route", "served_by", "outcome", "fallback", "feedback")
CHOICES: dict[str, list[tuple[str, str]]] = {
    "outcome": [("", "Any"), ("ok", "Answered"), ("failed", "Failed")],
    "fallback": [
        ("", "Any"),
        ("true", "Somebody stepped in"),
        ("false", "The one that was drawn"),
    ],
    "feedback": [
        ("", "Any"),
        ("up", "Thumbs up"),
        ("down", "Thumbs down"),
        ("any", "Rated"),
        ("none", "Not rated"),
    ],
    "kind": [
        ("", "Any"),
        ("chat", "Chat"),
        ("completion", "Text completion"),
        ("prediction", "Prediction"),
        ("diagram", "Diagram"),
    ],
    "shadow": [("", "What people asked"), ("true", "Shadow traffic")],
}


def values_of(given: Mapping[str, str]) -> dict[str, str]:
    """Every field of the form, with nothing where nothing was given."""
    return {name: given.get(name, "").strip() for name in FIELDS}


def chosen(values: Mapping[str, str]) -> dict[str, str]:
    """Only those that say something."""
    return {name: values[name] for name in FIELDS if values[name]}


def conditions(values: Mapping[str, str]) -> dict[str, Any]:
    """For the filter's own model to check. Days are whole ones, in UTC, the last one included."""
    found: dict[str, Any] = chosen(values)
    for name, days in (("since", 0), ("until", 1)):
        if name in found:
            found[name] = _midnight(found[name], days)
    return found


def _midnight(text: str, later: int) -> datetime | str:
    """What is no day is left as it is: the filter's model says what is wrong with it."""
    try:
        day = date.fromisoformat(text) + timedelta(days=later)
    except (ValueError, OverflowError):
        return text
    return datetime.combine(day, time.min, UTC)


def query(values: Mapping[str, str], **changes: str) -> str:
    """The same filter as the part of an address behind ``?``, with some fields set or, by nothing,
    dropped."""
    return urlencode({name: text for name, text in (chosen(values) | changes).items() if text})
