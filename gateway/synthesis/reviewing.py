"""The rows of a synthesis, looked at by people: accepted, edited, rejected."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.paging import DEFAULT_LIMIT, MAX_LIMIT
from gateway.services import Services
from gateway.synthesis.similar import containment, grams, plain
from gateway.synthesis.sources import Rows, read_rows
from gateway.synthesis.spec import SynthesisSpec
from gateway.synthesis.views import SynthesisView, owned, view_of
from gateway.tables import Synthesis, SynthesisRow, now
from shared.errors import Conflict, InvalidData, InvalidRequest, NotFound

MAX_TEXT = 200_000
# What fits into a database.
MAX_NUMBER = 2**31 - 1
# Who accepts a row that was dropped for this has seen what it is too near to.
_OVERRULED = ("leakage", "duplicate", "near_duplicate")
RowStatus = Literal["dropped", "pending", "accepted", "edited", "rejected"]


class RowView(BaseModel):
    """``reason`` and ``said`` tell why a row was dropped, ``matched`` what it is too near to;
    ``original`` is what an edited one was."""

    number: int
    status: RowStatus
    prompt: str
    completion: str
    original: dict[str, str] | None
    aim: str
    axis: str
    reason: str | None
    said: str | None
    matched: dict[str, Any] | None
    score: float | None
    judged: str
    rendered: bool | None
    reviewed_at: datetime | None


class ReviewSpec(BaseModel):
    """``accept`` also takes a dropped row that people know better about; ``edit`` accepts with
    other texts; ``undo`` lets it be looked at again."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["accept", "edit", "reject", "undo"]
    prompt: str | None = Field(None, max_length=MAX_TEXT)
    completion: str | None = Field(None, max_length=MAX_TEXT)

    @model_validator(mode="after")
    def _texts_go_with_edit(self) -> Self:
        given = self.prompt is not None or self.completion is not None
        if given != (self.action == "edit"):
            raise ValueError("prompt and completion go with the action edit, and with no other")
        return self


def list_rows(
    *,
    database: Database,
    owner: str,
    synthesis_id: str,
    status: RowStatus | Literal["kept"] | None = None,
    after: int | None = None,
    limit: int = DEFAULT_LIMIT,
) -> tuple[list[RowView], bool]:
    """In their order, and whether more follow; ``kept`` are all that were not dropped. ``after`` is
    the number of the last one that was seen."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must lie between 1 and {MAX_LIMIT}.", param="limit")
    query = select(SynthesisRow).where(
        SynthesisRow.synthesis_id == synthesis_id, col(SynthesisRow.number) > (after or 0)
    )
    if status == "kept":
        query = query.where(SynthesisRow.status != "dropped")
    elif status is not None:
        query = query.where(SynthesisRow.status == status)
    with database.read() as session:
        owned(session, owner, synthesis_id)
        rows = session.exec(query.order_by(col(SynthesisRow.number)).limit(limit + 1)).all()
    return [_view(row) for row in rows[:limit]], len(rows) > limit


def get_row(*, database: Database, owner: str, synthesis_id: str, number: int) -> RowView:
    with database.read() as session:
        owned(session, owner, synthesis_id)
        return _view(_row(session, synthesis_id, number))


def _row(session: Session, synthesis_id: str, number: int) -> SynthesisRow:
    row = session.get(SynthesisRow, (synthesis_id, number))
    if row is None:
        raise NotFound(f"The synthesis has no row {number}.", param="number")
    return row


def _view(row: SynthesisRow) -> RowView:
    return RowView.model_validate(row.model_dump(exclude={"synthesis_id", "request"}))


def review_row(
    *, services: Services, owner: str, synthesis_id: str, number: int, spec: ReviewSpec
) -> RowView:
    """`Conflict` unless the synthesis is being reviewed; `InvalidData` for texts that are empty,
    and for an edit that makes a row of what is there already, or of an evaluation's."""
    rows = _rows_beside(services, owner, synthesis_id) if spec.action == "edit" else None
    with services.database.write() as session:
        synthesis = _reviewed(session, owner, synthesis_id)
        row = _row(session, synthesis_id, number)
        before = row.prompt
        _apply(row, spec)
        if rows is not None and row.prompt != before and row.reason not in _OVERRULED:
            wishes = SynthesisSpec.model_validate(synthesis.spec)
            if (said := _leaks(row, rows, wishes) or _is_there(session, row, rows)) is not None:
                raise InvalidData(f"prompt: {said} Change it, or reject the row.", param="prompt")
        session.add(row)
        return _view(row)


def _rows_beside(services: Services, owner: str, synthesis_id: str) -> Rows | None:
    """None where something of it is gone by now."""
    with services.database.read() as session:
        spec = SynthesisSpec.model_validate(owned(session, owner, synthesis_id).spec)
    try:
        return read_rows(services, owner, spec)
    except InvalidData:
        return None


def _leaks(row: SynthesisRow, rows: Rows, wishes: SynthesisSpec) -> str | None:
    own = grams(plain(row.prompt))
    for where, pairs in rows.guarded.items():
        for number, pair in enumerate(pairs, 1):
            share = containment(own, grams(plain(pair.prompt)))
            if share >= wishes.leak_similarity:
                return f"it is {share:.0%} the same as row {number:,} of {where}, an evaluation's."
    return None


def _is_there(session: Session, row: SynthesisRow, rows: Rows) -> str | None:
    wanted = plain(row.prompt)
    for where, pairs in rows.known.items():
        for number, pair in enumerate(pairs, 1):
            if plain(pair.prompt) == wanted:
                return f"it is the same as row {number:,} of {where}."
    query = select(SynthesisRow.number, SynthesisRow.prompt).where(
        SynthesisRow.synthesis_id == row.synthesis_id,
        SynthesisRow.number != row.number,
        col(SynthesisRow.status).in_(("pending", "accepted", "edited")),
    )
    for number, prompt in session.exec(query):
        if plain(prompt) == wanted:
            return f"it is the same as row {number:,}."
    return None


def _reviewed(session: Session, owner: str, synthesis_id: str) -> Synthesis:
    found = owned(session, owner, synthesis_id, update=True)
    if found.status != "reviewing":
        raise Conflict(
            f"The synthesis is {found.status}: rows can be reviewed while it is reviewing.",
            code="not_reviewing",
        )
    return found


def _apply(row: SynthesisRow, spec: ReviewSpec) -> None:
    if spec.action in ("accept", "reject"):
        row.status = "accepted" if spec.action == "accept" else "rejected"
        if row.original is not None and spec.action == "accept":
            row.status = "edited"
    elif spec.action == "undo":
        if row.original is not None:
            row.prompt, row.completion = row.original["prompt"], row.original["completion"]
            row.original = None
        row.status = "pending" if row.reason is None else "dropped"
    else:
        _edit(row, spec)
    row.reviewed_at = None if spec.action == "undo" else now()


def _edit(row: SynthesisRow, spec: ReviewSpec) -> None:
    before = {"prompt": row.prompt, "completion": row.completion}
    for name in before:
        text = getattr(spec, name)
        if text is None:
            continue
        # (A browser sends line breaks its own way; PostgreSQL takes no NUL.)
        text = text.replace("\r\n", "\n").replace("\x00", "").encode(errors="replace").decode()
        if not text.strip():
            raise InvalidData(f"{name} must not be empty. Reject the row instead.", param=name)
        setattr(row, name, text)
    if (row.prompt, row.completion) != (before["prompt"], before["completion"]):
        row.original = row.original or before
    row.status = "edited" if row.original else "accepted"


def accept_all(*, database: Database, owner: str, synthesis_id: str) -> SynthesisView:
    """All rows that nobody has looked at."""
    with database.write() as session:
        found = _reviewed(session, owner, synthesis_id)
        query = select(SynthesisRow).where(
            SynthesisRow.synthesis_id == synthesis_id, SynthesisRow.status == "pending"
        )
        for row in session.exec(query).all():
            row.status, row.reviewed_at = "accepted", now()
            session.add(row)
        session.flush()
        return view_of(session, found)
