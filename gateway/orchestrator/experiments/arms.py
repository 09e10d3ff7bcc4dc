"""What the two arms of an experiment have come to, from rows of the request log. Pure.

The outcome is that of the answers that an arm gave itself, and counts once for a unit (a user, a
conversation, or a request, as the route draws): the first in the order in which outcomes became
known, and as it was said first, so that a later look only adds. Errors and seconds are of all
requests that were drawn for the arm: guardrails should rather be too quick. What a drill made, and
what was the client's own mistake, counts for nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from gateway.orchestrator.experiments.spec import Mode, Outcome, Terms
from gateway.orchestrator.experiments.statistics import Blocks

# Outcomes in steps of this share of the cap are as fine as a clock over a network is worth.
_STEPS = 1000
# Whoever leaves later than this without having read a word has not been answered.
PATIENCE_SECONDS = 10.0
_BUSY, _LEFT = 429, 499


class Logged(Protocol):
    """The columns of the request log that are read."""

    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def kind(self) -> str: ...
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
    def first_token_seconds(self) -> float | None: ...
    @property
    def rendered(self) -> bool | None: ...
    @property
    def feedback(self) -> int | None: ...
    @property
    def feedback_at(self) -> datetime | None: ...
    @property
    def first_rating(self) -> int | None: ...
    @property
    def first_rated_at(self) -> datetime | None: ...
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
    """``outcomes`` from 0 to 1, the more the better, one for a unit; ``errors`` (1 or 0) one for a
    request; ``seconds`` of answers, and ``waited`` of readers who left before theirs had ended."""

    label: str
    outcomes: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)


@dataclass
class Arms:
    """Both, and their outcomes and errors compared block by block."""

    control: Arm
    treatment: Arm
    by_outcome: Blocks = field(default_factory=Blocks)
    by_error: Blocks = field(default_factory=Blocks)

    def add_outcome(self, arm: Arm, outcome: float) -> None:
        arm.outcomes.append(outcome)
        self.by_outcome.add(outcome, to_treatment=arm is self.treatment)

    def add_request(self, arm: Arm, row: Logged) -> None:
        if row.status == _LEFT:
            arm.waited.append(row.seconds)
            if not _gave_up(row):
                return
        error = float(failed(row))
        arm.errors.append(error)
        self.by_error.add(error, to_treatment=arm is self.treatment)
        if not error:
            arm.seconds.append(row.seconds)


def read_arms(
    rows: Iterable[Logged], *, control: str, treatment: str, terms: Terms, mode: Mode = "live"
) -> Arms:
    """In the order in which requests ended: a long one is logged after shorter ones that began
    later, and a later look must only add to what an earlier one saw."""
    counted = sorted((row for row in rows if _counts(row)), key=_ended)
    arms = Arms(Arm(control), Arm(treatment))
    (_read_pairs if mode == "shadow" else _read_live)(counted, arms, terms)
    return arms


def read_alone(earlier: Arms, later: Arms) -> Arms:
    """The ``later`` treatment beside the ``earlier`` control: the first outcome of the one with the
    first of the other, and so on, since they were not there at one time."""
    arms = Arms(earlier.control, later.treatment)
    for blocks, ours, theirs in (
        (arms.by_outcome, arms.control.outcomes, arms.treatment.outcomes),
        (arms.by_error, arms.control.errors, arms.treatment.errors),
    ):
        for control, treatment in zip(ours, theirs, strict=False):
            blocks.add(control, to_treatment=False)
            blocks.add(treatment, to_treatment=True)
    return arms


def _read_live(rows: list[Logged], arms: Arms, terms: Terms) -> None:
    by_label = {arm.label: arm for arm in (arms.control, arms.treatment)}
    known: list[tuple[datetime, str, str, str, float]] = []
    for row in rows:
        label = _drawn(row)
        if row.shadow_of is not None or label not in by_label:
            continue
        arms.add_request(by_label[label], row)
        outcome = outcome_of(row, label, terms)
        if outcome is not None:
            moment = _known_at(row, terms.outcome)
            known.append((moment or _ended(row)[0], row.id, label, row.unit or row.id, outcome))
    seen: set[tuple[str, str]] = set()
    for _, _, label, unit, outcome in sorted(known):
        if (label, unit) not in seen:
            seen.add((label, unit))
            arms.add_outcome(by_label[label], outcome)


def _read_pairs(rows: list[Logged], arms: Arms, terms: Terms) -> None:
    """What the reader got of the control, beside what the shadow said to the same."""
    control, treatment = arms.control, arms.treatment
    read = {row.id: row for row in rows if row.shadow_of is None and _drawn(row) == control.label}
    units: set[str] = set()
    for shadow in rows:
        reader = read.get(shadow.shadow_of or "")
        if reader is None or shadow.served_by != treatment.label:
            continue
        arms.add_request(control, reader)
        arms.add_request(treatment, shadow)
        pair = (
            outcome_of(reader, control.label, terms),
            outcome_of(shadow, treatment.label, terms),
        )
        unit = reader.unit or reader.id
        if pair[0] is not None and pair[1] is not None and unit not in units:
            units.add(unit)
            arms.add_outcome(control, pair[0])
            arms.add_outcome(treatment, pair[1])


def _drawn(row: Logged) -> str:
    """The target that chance chose, whoever answered."""
    return row.drawn or (row.served_by if row.fallbacks == 0 else None) or ""


def _known_at(row: Logged, outcome: Outcome) -> datetime | None:
    """Where that is later than the answer."""
    rated_at = row.first_rated_at or row.feedback_at
    return {"thumbs": rated_at, "judge": row.judged_at}.get(outcome)


def _ended(row: Logged) -> tuple[datetime, str]:
    return row.created_at + timedelta(seconds=row.seconds), row.id


def _counts(row: Logged) -> bool:
    drilled = any("drill_" in (text or "") for text in (row.fallback_reason, row.error_code))
    return not drilled and not (400 <= row.status < 500 and row.status not in (_BUSY, _LEFT))


def _gave_up(row: Logged) -> bool:
    """Whether the reader has left after a long while without a word: an arm that never says
    anything must not look better than one that says that it cannot."""
    return row.first_token_seconds is None and row.seconds >= PATIENCE_SECONDS


def failed(row: Logged) -> bool:
    """Whether the one that was asked first gave no answer, or none to its end, even where another
    stepped in."""
    return row.fallbacks > 0 or row.continued_by is not None or row.status >= 400


def outcome_of(row: Logged, label: str | None, terms: Terms) -> float | None:
    """From 0 to 1, the more the better; None where this row says nothing of it."""
    if row.status == _LEFT:
        return _outcome_of_left(row, terms)
    if terms.outcome == "answered":
        return float(not failed(row))
    if failed(row):
        return _outcome_of_failed(row, terms)
    if row.served_by != label:
        return None
    if terms.outcome == "thumbs":
        # (A gateway of an older version beside this one notes the last rating alone.)
        rating = row.first_rating or row.feedback
        return None if not rating else float(rating > 0)
    if terms.outcome == "judge":
        return row.judge_score
    if terms.outcome == "rendered":
        return None if row.rendered is None else float(row.rendered)
    cap = terms.latency_cap_seconds
    return round((1 - min(max(row.seconds, 0.0), cap) / cap) * _STEPS) / _STEPS


def _outcome_of_failed(row: Logged, terms: Terms) -> float | None:
    """No arm gets better by failing where it would have been slow, or have drawn badly. (What a
    reader or a judge would have said of an answer that was not given, nobody knows.)"""
    if terms.outcome == "latency":
        return 0.0
    return 0.0 if terms.outcome == "rendered" and row.kind == "diagram" else None


def _outcome_of_left(row: Logged, terms: Terms) -> float | None:
    """Who left before the end has waited in vain: for as long as is counted at most. (Without them
    the slower arm would be rid of its slowest answers.)"""
    if terms.outcome == "latency":
        return 0.0
    return 0.0 if terms.outcome == "answered" and _gave_up(row) else None


def readable_in_shadow(outcome: Outcome) -> Outcome:
    """What stands for an outcome where no reader sees the answer: nobody's thumb tells of it."""
    return "answered" if outcome == "thumbs" else outcome


def columns(table: Any) -> list[Any]:
    """Those of `Logged`, and no texts: many rows are read at once."""
    names = [name for name, value in vars(Logged).items() if isinstance(value, property)]
    return [getattr(table, name) for name in names]
