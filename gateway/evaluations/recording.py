"""Writes down what comes of an evaluation, by who holds its lease: an answer is never stored
twice."""

from typing import Any

from sqlmodel import Session, select

from gateway.leases import Kind, Lease
from gateway.tables import Evaluation, EvaluationAnswer, now


def _begin(found: Evaluation) -> None:
    found.status, found.started_at = "running", found.started_at or now()


def _fail(found: Evaluation, code: str, message: str) -> None:
    found.error_code, found.error_message = code, message
    _end(found, "failed")


def _end(found: Evaluation, status: str) -> None:
    found.status, found.phase, found.finished_at = status, None, now()


EVALUATIONS = Kind(
    table=Evaluation,
    live=("queued", "running"),
    begin=_begin,
    fail=_fail,
    way_out="Look at the gateway's log, then resume the evaluation.",
)


def enter(lease: Lease[Evaluation], phase: str) -> None:
    with lease.writing() as (_, found):
        found.phase = phase


def store(lease: Lease[Evaluation], answer: EvaluationAnswer) -> None:
    """A new answer, which counts as progress."""
    with lease.writing() as (session, found):
        session.add(answer)
        _progressed(found)


def store_verdicts(
    lease: Lease[Evaluation], candidate: int, place: int, verdicts: dict[str, Any]
) -> None:
    with lease.writing() as (session, found):
        answer = session.get_one(EvaluationAnswer, (lease.id, candidate, place))
        answer.verdicts = verdicts
        session.add(answer)
        _progressed(found)


def _progressed(found: Evaluation) -> None:
    found.done += 1
    found.lost = 0


def succeed(
    lease: Lease[Evaluation], results: dict[str, Any], scores: list[list[dict[str, Any] | None]]
) -> None:
    with lease.ending() as (session, found):
        _store_scores(session, lease.id, scores)
        found.results = results
        _end(found, "succeeded")


def _store_scores(
    session: Session, evaluation_id: str, scores: list[list[dict[str, Any] | None]]
) -> None:
    query = select(EvaluationAnswer).where(EvaluationAnswer.evaluation_id == evaluation_id)
    for answer in session.exec(query):
        answer.scores = scores[answer.candidate][answer.place]
        session.add(answer)
