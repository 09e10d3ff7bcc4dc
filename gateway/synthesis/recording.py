"""Writes down what comes of a synthesis, by who holds its lease."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from gateway.leases import Kind, Lease
from gateway.synthesis.filtering import Drop
from gateway.synthesis.pairs import Pair
from gateway.synthesis.work import Answer, Row
from gateway.tables import Synthesis, SynthesisAnswer, SynthesisRow, now


def _begin(found: Synthesis) -> None:
    found.status, found.started_at = "running", found.started_at or now()


def _fail(found: Synthesis, code: str, message: str) -> None:
    found.error_code, found.error_message = code, message
    found.status, found.finished_at = "failed", now()


SYNTHESES = Kind(
    table=Synthesis,
    live=("queued", "running"),
    begin=_begin,
    fail=_fail,
    way_out="Look at the gateway's log, then start a new synthesis.",
)


@dataclass(frozen=True)
class Recorded:
    """The store of `work.produce`."""

    lease: Lease[Synthesis]

    async def answers(self) -> Mapping[int, Answer]:
        return await asyncio.to_thread(self._answers)

    async def rows(self) -> Sequence[Row]:
        return await asyncio.to_thread(self._rows)

    async def keep_answer(self, number: int, answer: Answer) -> None:
        await asyncio.to_thread(self._keep_answer, number, answer)

    async def keep_rows(self, rows: Sequence[Row]) -> None:
        await asyncio.to_thread(self._keep_rows, rows)

    def _answers(self) -> Mapping[int, Answer]:
        query = select(SynthesisAnswer).where(SynthesisAnswer.synthesis_id == self.lease.id)
        with self.lease.database.read() as session:
            return {
                row.request: Answer(**row.model_dump(exclude={"synthesis_id", "request"}))
                for row in session.exec(query)
            }

    def _rows(self) -> Sequence[Row]:
        query = select(SynthesisRow).where(SynthesisRow.synthesis_id == self.lease.id)
        with self.lease.database.read() as session:
            return [_row_of(row) for row in session.exec(query.order_by(col(SynthesisRow.number)))]

    def _keep_answer(self, number: int, answer: Answer) -> None:
        with self.lease.writing() as (session, found):
            session.add(SynthesisAnswer(synthesis_id=found.id, request=number, **asdict(answer)))
            found.requests += 1
            found.prompt_tokens += answer.prompt_tokens
            found.completion_tokens += answer.completion_tokens
            found.lost = 0

    def _keep_rows(self, rows: Sequence[Row]) -> None:
        with self.lease.writing() as (session, found):
            for row in rows:
                session.merge(_stored(found.id, row))
            session.flush()
            found.dropped = _count(session, found.id, dropped=True)
            found.kept = _count(session, found.id, dropped=False)
            found.lost = 0


def review(lease: Lease[Synthesis]) -> None:
    """All rows are there: people are to look at them."""
    with lease.ending() as (_, found):
        found.status = "reviewing"


def _count(session: Session, synthesis_id: str, *, dropped: bool) -> int:
    is_dropped = col(SynthesisRow.status) == "dropped"
    query = select(func.count()).where(
        SynthesisRow.synthesis_id == synthesis_id, is_dropped if dropped else ~is_dropped
    )
    return session.exec(query).one()


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
