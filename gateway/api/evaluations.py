"""`/api/evaluations`: how good models are on data, measured, compared and judged."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.evaluations import creating, report, required, rows, views
from gateway.evaluations.required import GateAnswer, GateQuestion
from gateway.evaluations.rows import Order, Wanted
from gateway.evaluations.spec import EvaluationSpec
from gateway.evaluations.views import EvaluationView
from gateway.idempotency import Claim

router = APIRouter(prefix="/api/evaluations", tags=["evaluations"])

_MEDIA = {
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
}


@router.post("", status_code=202, response_model=EvaluationView)
async def create_evaluation(
    spec: EvaluationSpec, services: ServicesDep, owner: OwnerDep, once: OnceDep
) -> JSONResponse:
    """Ask candidates the examples of a dataset and measure what they answer, in the background."""

    async def create(claim: Claim | None) -> EvaluationView:
        return await creating.create_evaluation(
            services=services, owner=owner, spec=spec, claim=claim
        )

    async def load(evaluation_id: str) -> EvaluationView:
        return views.get_evaluation(
            database=services.database, owner=owner, evaluation_id=evaluation_id
        )

    return await once(create, status=202, load=load)


@router.get("")
def list_evaluations(
    services: ServicesDep, owner: OwnerDep, query: ListDep, dataset_name: str | None = None
) -> ListPublic:
    """With ``dataset_name`` those of all versions of one dataset: the history."""
    page = views.list_evaluations(
        database=services.database,
        owner=owner,
        dataset_name=dataset_name,
        after=query.after,
        limit=query.limit,
    )
    return ListPublic(data=page.data, has_more=page.has_more)


@router.get("/{evaluation_id}")
def get_evaluation(evaluation_id: str, services: ServicesDep, owner: OwnerDep) -> EvaluationView:
    return views.get_evaluation(
        database=services.database, owner=owner, evaluation_id=evaluation_id
    )


@router.get("/{evaluation_id}/examples")
def list_examples(
    evaluation_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    order: Order = "place",
    metric: str | None = None,
    candidate: int | None = None,
    tag: str | None = None,
    after: int | None = None,
    limit: int = 20,
) -> ListPublic:
    """With what each candidate answered. ``gains``, ``losses`` and ``differences`` go by how a
    candidate differs from the baseline; ``after`` is the place of the last one that was seen."""
    page = rows.list_examples(
        database=services.database,
        owner=owner,
        evaluation_id=evaluation_id,
        wanted=Wanted(order, metric, candidate, tag, after, limit),
    )
    return ListPublic(data=page.data, has_more=page.has_more)


@router.post("/{evaluation_id}/gate")
def try_gate(
    evaluation_id: str, question: GateQuestion, services: ServicesDep, owner: OwnerDep
) -> GateAnswer:
    """Whether rules hold for a candidate, with the reasons: what a deployment that requires them
    would be told."""
    evaluation = views.get_evaluation(
        database=services.database, owner=owner, evaluation_id=evaluation_id
    )
    return required.answered(evaluation, question)


@router.post("/{evaluation_id}/cancel")
def cancel_evaluation(evaluation_id: str, services: ServicesDep, owner: OwnerDep) -> EvaluationView:
    """What was answered so far stays."""
    return views.cancel_evaluation(
        database=services.database, owner=owner, evaluation_id=evaluation_id
    )


@router.post("/{evaluation_id}/resume")
def resume_evaluation(evaluation_id: str, services: ServicesDep, owner: OwnerDep) -> EvaluationView:
    """Ask the rest of one that failed or was cancelled."""
    view = views.resume_evaluation(
        database=services.database, owner=owner, evaluation_id=evaluation_id
    )
    services.evaluation_wanted.set()
    return view


@router.delete("/{evaluation_id}", status_code=204)
def delete_evaluation(evaluation_id: str, services: ServicesDep, owner: OwnerDep) -> Response:
    views.delete_evaluation(database=services.database, owner=owner, evaluation_id=evaluation_id)
    return Response(status_code=204)


@router.get("/{evaluation_id}/report")
def get_report(
    evaluation_id: str,
    services: ServicesDep,
    owner: OwnerDep,
    format: Literal["html", "json", "csv"] = "html",
) -> Response:
    """The whole evaluation as one file: a page that needs nothing else, or data."""
    content = report.make_report(
        database=services.database, owner=owner, evaluation_id=evaluation_id, kind=format
    )
    name = f'attachment; filename="{evaluation_id}.{format}"'
    return Response(content, media_type=_MEDIA[format], headers={"Content-Disposition": name})
