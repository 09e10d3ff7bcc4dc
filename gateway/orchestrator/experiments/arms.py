"""What the two arms of an experiment have come to, from rows of the request log. Pure.

The outcome is that of the answers that an arm gave itself, and counts once for a unit (a user, a
conversation, or a request, as the route draws): the first in the order in which outcomes became
known, so that a later look only adds. Errors and seconds are of all requests that were drawn for
the arm: guardrails should rather be too quick. What a drill made, and what was the client's own
mistake, counts for nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from gateway.orchestrator.experiments.spec import Mode, Outcome, Terms

# Outcomes in steps of this share of the cap are as fine as a clock over a network is worth.
_STEPS = 1000


class Logged(Protocol):
    """The columns of the request log that are read."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def drawn(self) -> str | None: ...
    @property
    def served_by(self) -> str | None: ...
    @property
    def continued_by(self) -> str | None: ...
    @property
    def fallbacks(self) -> int: ...
    @property
    def fallback_reason(self) -> str | None: ...
    @property
    def status(self) -> int: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def rendered(self) -> bool | None: ...
    @property
    def feedback(self) -> int | None: ...
    @property
    def feedback_at(self) -> datetime | None: ...
    @property
    def judge_score(self) -> float | None: ...
    @property
    def judged_at(self) -> datetime | None: ...
    @property
    def shadow_of(self) -> str | None: ...
    @property
    def unit(self) -> str | None: ...


@dataclass
class Arm:
    """``outcomes`` from 0 to 1, the more the better, one for a unit; ``errors`` (1 or 0) and
    ``seconds`` (of answers) one for a request."""

    label: str
    outcomes: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Arms:
    control: Arm
    treatment: Arm


def read_arms(
    rows: Iterable[Logged], *, control: str, treatment: str, terms: Terms, mode: Mode = "live"
) -> Arms:
    """In the order in which requests ended: a long one is logged after shorter ones that began
    later, and a later look must only add to what an earlier one saw."""
    counted = sorted((row for row in rows if _counts(row)), key=_ended)
    if mode == "shadow":
        return _pairs(counted, Arm(control), Arm(treatment), terms)
    arms = {control: Arm(control), treatment: Arm(treatment)}
    known: list[tuple[datetime, str, str, str, float]] = []
    for row in counted:
        label = row.drawn or (row.served_by if row.fallbacks == 0 else None)
        if row.shadow_of is not None or label is None or label not in arms:
            continue
        _note(row, arms[label])
        outcome = outcome_of(row, label, terms)
        if outcome is not None:
            moment = _known_at(row, terms.outcome)
            known.append((moment or _ended(row)[0], row.id, label, row.unit or row.id, outcome))
    seen: set[tuple[str, str]] = set()
    for _, _, label, unit, outcome in sorted(known):
        if (label, unit) not in seen:
            seen.add((label, unit))
            arms[label].outcomes.append(outcome)
    return Arms(arms[control], arms[treatment])


def _pairs(rows: list[Logged], control: Arm, treatment: Arm, terms: Terms) -> Arms:
    """What the reader got, beside what the shadow said to the same; both arms in one order."""
    read = {row.id: row for row in rows if row.shadow_of is None}
    units: set[str] = set()
    for shadow in rows:
        reader = read.get(shadow.shadow_of or "")
        if reader is None or shadow.served_by != treatment.label:
            continue
        _note(reader, control)
        _note(shadow, treatment)
        pair = (
            outcome_of(reader, reader.served_by, terms),
            outcome_of(shadow, treatment.label, terms),
        )
        unit = reader.unit or reader.id
        if pair[0] is not None and pair[1] is not None and unit not in units:
            units.add(unit)
            control.outcomes.append(pair[0])
            treatment.outcomes.append(pair[1])
    return Arms(control, treatment)


def _known_at(row: Logged, outcome: Outcome) -> datetime | None:
    """Where that is later than the answer."""
    return {"thumbs": row.feedback_at, "judge": row.judged_at}.get(outcome)


def _ended(row: Logged) -> tuple[datetime, str]:
    return row.created_at + timedelta(seconds=row.seconds), row.id


def _counts(row: Logged) -> bool:
    drilled = any("drill_" in (text or "") for text in (row.fallback_reason, row.error_code))
    return not drilled and not (400 <= row.status < 500 and row.status != 429)


def failed(row: Logged) -> bool:
    """Whether the one that was asked first gave no answer, or none to its end, even where another
    stepped in."""
    return row.fallbacks > 0 or row.continued_by is not None or row.status >= 400


def _note(row: Logged, arm: Arm) -> None:
    arm.errors.append(float(failed(row)))
    if not failed(row):
        arm.seconds.append(row.seconds)


def outcome_of(row: Logged, label: str | None, terms: Terms) -> float | None:
    """From 0 to 1, the more the better; None where this row says nothing of it."""
    if terms.outcome == "answered":
        return float(not failed(row))
    if failed(row) or row.served_by != label:
        return None
    if terms.outcome == "thumbs":
        return None if not row.feedback else float(row.feedback > 0)
    if terms.outcome == "judge":
        return row.judge_score
    if terms.outcome == "rendered":
        return None if row.rendered is None else float(row.rendered)
    cap = terms.latency_cap_seconds
    return round((1 - min(max(row.seconds, 0.0), cap) / cap) * _STEPS) / _STEPS


def readable_in_shadow(outcome: Outcome) -> Outcome:
    """What stands for an outcome where no reader sees the answer: nobody's thumb tells of it."""
    return "answered" if outcome == "thumbs" else outcome


def columns(table: Any) -> list[Any]:
    """Those of `Logged`, and no texts: many rows are read at once."""
    names = [name for name, value in vars(Logged).items() if isinstance(value, property)]
    return [getattr(table, name) for name in names]
