"""Who works on an evaluation: one gateway at a time, for as long as it says so.

A gateway that works renews its lease; another may go on with an evaluation whose lease has ended.
Each write looks first whether it is still the writer's: an answer is never stored twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import or_
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.tables import Evaluation, EvaluationAnswer, now

# Of a gateway that dies each time that it works on one, somebody must be told.
MAX_LOST = 5


class LeaseLost(Exception):
    """The evaluation is somebody else's by now, or was cancelled."""


@dataclass(frozen=True)
class Lease:
    """The right to work on an evaluation."""

    database: Database
    evaluation_id: str
    holder: str
    seconds: float

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, Evaluation]]:
        """A transaction of who holds it; `LeaseLost` for anybody else."""
        with self.database.write() as session:
            found = session.get(Evaluation, self.evaluation_id, with_for_update=True)
            if found is None or found.holder != self.holder or found.status != "running":
                raise LeaseLost
            yield session, found

    def renew(self) -> None:
        with self.writing() as (session, found):
            found.held_until = now() + timedelta(seconds=self.seconds)
            session.add(found)

    def release(self) -> None:
        """Let another one go on at once."""
        with self.writing() as (session, found):
            found.holder, found.held_until = None, now()
            session.add(found)

    def enter(self, phase: str) -> None:
        with self.writing() as (session, found):
            found.phase = phase
            session.add(found)

    def store(self, answer: EvaluationAnswer) -> None:
        """A new answer, which counts as progress."""
        with self.writing() as (session, found):
            session.add(answer)
            self._progressed(session, found)

    def store_verdicts(self, candidate: int, place: int, verdicts: dict[str, Any]) -> None:
        with self.writing() as (session, found):
            answer = session.get_one(EvaluationAnswer, (self.evaluation_id, candidate, place))
            answer.verdicts = verdicts
            session.add(answer)
            self._progressed(session, found)

    def _progressed(self, session: Session, found: Evaluation) -> None:
        found.done += 1
        found.lost = 0
        session.add(found)

    def succeed(self, results: dict[str, Any], scores: list[list[dict[str, Any] | None]]) -> None:
        with self.writing() as (session, found):
            query = select(EvaluationAnswer).where(
                EvaluationAnswer.evaluation_id == self.evaluation_id
            )
            for answer in session.exec(query):
                answer.scores = scores[answer.candidate][answer.place]
                session.add(answer)
            found.results = results
            _end(session, found, "succeeded")

    def fail(self, code: str, message: str) -> None:
        with self.writing() as (session, found):
            found.error_code, found.error_message = code, message
            _end(session, found, "failed")


def _end(session: Session, found: Evaluation, status: str) -> None:
    found.status, found.phase, found.finished_at = status, None, now()
    found.holder = found.held_until = None
    session.add(found)


def claim_next(database: Database, *, holder: str, seconds: float) -> Lease | None:
    """The oldest evaluation that nobody works on, from now on ``holder``'s."""
    waiting = or_(
        col(Evaluation.status) == "queued",
        (col(Evaluation.status) == "running")
        & (col(Evaluation.held_until).is_(None) | (col(Evaluation.held_until) < now())),
    )
    with database.write() as session:
        query = select(Evaluation).where(waiting).order_by(col(Evaluation.created_at))
        # (PostgreSQL: two gateways take two; SQLite's write transactions exclude one another.)
        found = session.exec(query.with_for_update(skip_locked=True).limit(1)).first()
        if found is None:
            return None
        if found.status == "running" and found.holder is not None:
            found.lost += 1
        if found.lost >= MAX_LOST:
            found.error_code = "gateway_lost"
            found.error_message = (
                f"The gateway was lost {found.lost} times while it worked on this. Look at its "
                "log, then resume the evaluation."
            )
            _end(session, found, "failed")
            return None
        found.status, found.holder = "running", holder
        found.held_until = now() + timedelta(seconds=seconds)
        found.started_at = found.started_at or now()
        session.add(found)
        return Lease(database, found.id, holder, seconds)
