"""Evaluations as their owners see them: read, listed, cancelled, deleted. Knows no HTTP."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.paging import DEFAULT_LIMIT, Page, paginate
from gateway.tables import Dataset, Evaluation, EvaluationAnswer, now
from shared.errors import Conflict, NotFound

TERMINAL = ("succeeded", "failed", "cancelled")


class EvaluationError(BaseModel):
    code: str
    message: str


class EvaluationView(BaseModel):
    """``done`` of ``total`` answers (and verdicts) are there; ``results`` once all are."""

    id: str
    object: str = "evaluation"
    name: str
    status: str
    phase: str | None
    dataset_id: str
    task: str
    metrics: list[str]
    candidates: list[dict[str, Any]]
    baseline: int
    examples: int
    done: int
    total: int
    warnings: list[str]
    results: dict[str, Any] | None
    error: EvaluationError | None
    spec: dict[str, Any]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


def view_of(evaluation: Evaluation) -> EvaluationView:
    error = None
    if evaluation.error_code is not None:
        error = EvaluationError(code=evaluation.error_code, message=evaluation.error_message or "")
    return EvaluationView(
        baseline=_baseline(evaluation),
        error=error,
        **evaluation.model_dump(exclude={"owner", "object"}),
    )


def _baseline(evaluation: Evaluation) -> int:
    spec = evaluation.spec
    return int(spec["candidates"].index(spec["baseline"])) if spec.get("baseline") else 0


def owned(session: Session, owner: str, evaluation_id: str, *, update: bool = False) -> Evaluation:
    found = session.get(Evaluation, evaluation_id, with_for_update=update)
    if found is None or found.owner != owner:
        raise NotFound(f"There is no evaluation {evaluation_id[:80]!r}.", param="evaluation_id")
    return found


def get_evaluation(*, database: Database, owner: str, evaluation_id: str) -> EvaluationView:
    with database.read() as session:
        return view_of(owned(session, owner, evaluation_id))


def list_evaluations(
    *,
    database: Database,
    owner: str,
    dataset_name: str | None = None,
    after: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[EvaluationView]:
    """Newest first; with ``dataset_name`` those of all versions of one dataset."""
    query = select(Evaluation).where(Evaluation.owner == owner)
    if dataset_name is not None:
        versions = select(Dataset.id).where(Dataset.owner == owner, Dataset.name == dataset_name)
        query = query.where(col(Evaluation.dataset_id).in_(versions))
    with database.read() as session:
        page = paginate(
            session=session,
            query=query,
            table=Evaluation,
            key=Evaluation.id,
            after=after,
            limit=limit,
        )
    return Page([view_of(found) for found in page.data], page.has_more)


def cancel_evaluation(*, database: Database, owner: str, evaluation_id: str) -> EvaluationView:
    """What was answered stays; whoever works on it notices at its next answer."""
    with database.write() as session:
        found = owned(session, owner, evaluation_id, update=True)
        if found.status == "cancelled":
            return view_of(found)
        if found.status in TERMINAL:
            raise Conflict(f"The evaluation has {found.status} already.", code="already_ended")
        found.status, found.phase, found.finished_at = "cancelled", None, now()
        found.holder = found.held_until = None
        session.add(found)
    return view_of(found)


def resume_evaluation(*, database: Database, owner: str, evaluation_id: str) -> EvaluationView:
    """Whatever came to nothing before is asked again; answers that are there stay."""
    with database.write() as session:
        found = owned(session, owner, evaluation_id, update=True)
        own = select(EvaluationAnswer).where(EvaluationAnswer.evaluation_id == evaluation_id)
        lost = session.exec(
            own.where(
                col(EvaluationAnswer.error).is_not(None), col(EvaluationAnswer.refused).is_(False)
            )
        ).all()
        ended_early = found.status in ("failed", "cancelled")
        if not ended_early and not (found.status == "succeeded" and lost):
            raise Conflict(f"The evaluation is {found.status}: there is nothing to resume.")
        unmet = {answer.place for answer in lost if answer.candidate == _baseline(found)}
        for answer in lost:
            session.delete(answer)
            found.done -= 1 + (answer.verdicts is not None)
        session.flush()
        if (found.spec.get("judge") or {}).get("against") == "baseline":
            # What was to be judged against an answer that was not there is judged anew.
            for answer in session.exec(own.where(col(EvaluationAnswer.place).in_(unmet))):
                found.done -= answer.verdicts is not None
                answer.verdicts = None
                session.add(answer)
        found.status, found.finished_at, found.lost = "queued", None, 0
        found.error_code = found.error_message = found.results = None
        session.add(found)
    return view_of(found)


def delete_evaluation(*, database: Database, owner: str, evaluation_id: str) -> None:
    with database.write() as session:
        found = owned(session, owner, evaluation_id, update=True)
        if found.status not in TERMINAL:
            raise Conflict(f"The evaluation is {found.status}. Cancel it before you delete it.")
        session.delete(found)
