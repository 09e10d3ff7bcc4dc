"""What became of one request, in sentences. Pure."""

from typing import Protocol

BAD_STATUS = 400
LEFT = 499


class Told(Protocol):
    """What the log knows of a request's way."""

    model: str
    route: str | None
    drawn: str | None
    served_by: str | None
    continued_by: str | None
    fallbacks: int
    fallback_reason: str | None
    shadow_of: str | None
    status: int
    error_code: str | None


def answered_by(row: Told) -> str | None:
    """The one whose words came last."""
    return row.continued_by or row.served_by


def story(row: Told) -> list[str]:
    """Who was to answer, who did, and how it ended; a sentence each."""
    return [*_drawn(row), *_answered(row), *_ended(row)]


def _drawn(row: Told) -> list[str]:
    said = []
    if row.shadow_of:
        said.append(f"A copy of {row.shadow_of}, made for comparison; nobody waited for it.")
    if row.route and row.drawn:
        said.append(f"The route {row.route} drew {row.drawn}.")
    elif row.drawn and row.drawn != row.model:
        said.append(f"{row.model} was asked for, which is {row.drawn}.")
    return said


def _answered(row: Told) -> list[str]:
    said = []
    if row.served_by and row.fallbacks:
        missing = "1 before it" if row.fallbacks == 1 else f"{row.fallbacks} before it"
        why = f" ({row.fallback_reason})" if row.fallback_reason else ""
        said.append(f"{row.served_by} stepped in for {missing}{why}.")
    elif row.served_by:
        said.append(f"{row.served_by} answered.")
    if row.continued_by:
        said.append(f"That broke off, and {row.continued_by} went on with the answer.")
    return said


def _ended(row: Told) -> list[str]:
    if row.status == LEFT:
        return ["Whoever asked left before the end."]
    if row.status < BAD_STATUS:
        return []
    why = f" ({row.error_code})" if row.error_code else ""
    if row.served_by:
        return [f"The answer broke off with the status {row.status}{why}."]
    return [f"Nobody answered: the status was {row.status}{why}."]
