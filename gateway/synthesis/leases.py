"""Who works on a synthesis: one gateway at a time, for as long as it says so, and where it keeps
what was done. Each write looks first whether it is still the writer's."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import func, or_
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.synthesis.filtering import Drop
from gateway.synthesis.pairs import Pair
from gateway.synthesis.work import Answer, Row
from gateway.tables import Synthesis, SynthesisAnswer, SynthesisRow, now

# Of a gateway that dies each time that it works on one, somebody must be told.
MAX_LOST = 5


class LeaseLost(Exception):
    """The synthesis is somebody else's by now, or was cancelled."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a synthesis; the store of `work.produce`."""

    database: Database
    synthesis_id: str
    holder: str
    seconds: float

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, Synthesis]]:
        """A transaction of who holds it; `LeaseLost` for anybody else."""
        with self.database.write() as session:
            found = session.get(Synthesis, self.synthesis_id, with_for_update=True)
            if found is None or found.holder != self.holder or found.status != "running":
                raise LeaseLost
            yield session, found
            session.add(found)

    def renew(self) -> None:
        with self.writing() as (_, found):
            found.held_until = now() + timedelta(seconds=self.seconds)

    def release(self) -> None:
        """Let another one go on at once."""
        with self.writing() as (_, found):
            found.holder, found.held_until = None, now()

    def answers(self) -> Mapping[int, Answer]:
        query = select(SynthesisAnswer).where(SynthesisAnswer.synthesis_id == self.synthesis_id)
        with self.database.read() as session:
            return {
                row.request: Answer(**row.model_dump(exclude={"synthesis_id", "request"}))
                for row in session.exec(query)
            }

    def rows(self) -> Sequence[Row]:
        query = select(SynthesisRow).where(SynthesisRow.synthesis_id == self.synthesis_id)
        with self.database.read() as session:
            return [_row_of(row) for row in session.exec(query.order_by(col(SynthesisRow.number)))]

    async def keep_answer(self, number: int, answer: Answer) -> None:
        await asyncio.to_thread(self._keep_answer, number, answer)

    async def keep_rows(self, rows: Sequence[Row]) -> None:
        await asyncio.to_thread(self._keep_rows, rows)

    def _keep_answer(self, number: int, answer: Answer) -> None:
        with self.writing() as (session, found):
            session.add(
                SynthesisAnswer(synthesis_id=self.synthesis_id, request=number, **asdict(answer))
            )
            found.requests += 1
            found.prompt_tokens += answer.prompt_tokens
            found.completion_tokens += answer.completion_tokens
            found.lost = 0

    def _keep_rows(self, rows: Sequence[Row]) -> None:
        with self.writing() as (session, found):
            for row in rows:
                session.merge(_stored(self.synthesis_id, row))
            session.flush()
            found.dropped = _count(session, self.synthesis_id, dropped=True)
            found.kept = _count(session, self.synthesis_id, dropped=False)
            found.lost = 0

    def review(self) -> None:
        """All rows are there: people are to look at them."""
        with self.writing() as (_, found):
            found.status, found.holder, found.held_until = "reviewing", None, None

    def fail(self, code: str, message: str) -> None:
        with self.writing() as (_, found):
            found.error_code, found.error_message = code, message
            _end(found, "failed")


def _count(session: Session, synthesis_id: str, *, dropped: bool) -> int:
    is_dropped = col(SynthesisRow.status) == "dropped"
    query = select(func.count()).where(
        SynthesisRow.synthesis_id == synthesis_id, is_dropped if dropped else ~is_dropped
    )
    return session.exec(query).one()


def _end(found: Synthesis, status: str) -> None:
    found.status, found.finished_at = status, now()
    found.holder = found.held_until = None


def _stored(synthesis_id: str, row: Row) -> SynthesisRow:
    drop = row.drop
    return SynthesisRow(
        synthesis_id=synthesis_id,
        number=row.number,
        request=row.request,
        status="dropped" if drop else "pending",
        prompt=row.pair.prompt,
        completion=row.pair.completion,
        aim=row.aim,
        axis=row.axis,
        reason=drop.reason if drop else None,
        said=drop.said if drop else None,
        matched=drop.matched if drop else None,
        score=row.score,
        judged=row.judged,
        rendered=row.rendered,
    )


def _row_of(row: SynthesisRow) -> Row:
    drop = None
    if row.reason is not None:
        drop = Drop(row.reason, row.said or "", row.matched)  # type: ignore[arg-type]
    return Row(
        number=row.number,
        request=row.request,
        pair=Pair(row.prompt, row.completion),
        aim=row.aim,
        axis=row.axis,
        drop=drop,
        score=row.score,
        judged=row.judged,
        rendered=row.rendered,
    )


def claim_next(database: Database, *, holder: str, seconds: float) -> Lease | None:
    """The oldest synthesis that nobody works on, from now on ``holder``'s."""
    waiting = or_(
        col(Synthesis.status) == "queued",
        (col(Synthesis.status) == "running")
        & (col(Synthesis.held_until).is_(None) | (col(Synthesis.held_until) < now())),
    )
    with database.write() as session:
        query = select(Synthesis).where(waiting).order_by(col(Synthesis.created_at))
        # (PostgreSQL: two gateways take two; SQLite's write transactions exclude one another.)
        found = session.exec(query.with_for_update(skip_locked=True).limit(1)).first()
        if found is None:
            return None
        session.add(found)
        if found.status == "running" and found.holder is not None:
            found.lost += 1
        if found.lost >= MAX_LOST:
            found.error_code = "gateway_lost"
            found.error_message = (
                f"The gateway was lost {found.lost} times while it worked on this. Look at its "
                "log, then start a new synthesis."
            )
            _end(found, "failed")
            return None
        found.status, found.holder = "running", holder
        found.held_until = now() + timedelta(seconds=seconds)
        found.started_at = found.started_at or now()
        return Lease(database, found.id, holder, seconds)
