"""Evaluations: the list, a new one, and the page that shows what one came to."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway.datasets import store
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.evaluations import creating, views
from gateway.evaluations.history import history_chart
from gateway.evaluations.judge import RUBRIC
from gateway.evaluations.rows import ORDERS, Wanted, list_examples
from gateway.evaluations.spec import EvaluationSpec
from gateway.pages.html import UNPROCESSABLE, fragment, no_problems, page, problems, see_other
from gateway.pages.model_choices import dataset_choice, evaluable_choices, run_choices
from gateway.run_lists import dataset_names
from gateway.services import Services
from shared.errors import GenPlatError
from ui import evaluation_form
from ui.evaluation_form import TASKS, Values
from ui.evaluation_tables import shown_results

router = APIRouter(prefix="/evaluations", include_in_schema=False)

SHOWN_DATASETS = 100
SHOWN_EXAMPLES = 5
TEMPLATE = "evaluations/show.html"
_ORDER_NAMES = {
    "worst": "the worst answers",
    "best": "the best answers",
    "gains": "most gained",
    "losses": "most lost",
    "differences": "most different",
    "place": "as they come",
}


@router.get("")
def list_evaluations(
    services: ServicesDep, owner: PageOwnerDep, after: str | None = None
) -> Response:
    found = views.list_evaluations(database=services.database, owner=owner, after=after)
    names = dataset_names(database=services.database, ids={one.dataset_id for one in found.data})
    return page(
        "evaluations/list.html", evaluations=found.data, has_more=found.has_more, datasets=names
    )


@router.get("/new")
def new_evaluation(
    services: ServicesDep,
    owner: PageOwnerDep,
    dataset_id: str = "",
    candidate: str = "",
    held_out_of: str = "",
) -> Response:
    values = evaluation_form.initial_values(dataset_id, [candidate] if candidate else [])
    return _form(services, owner, values | {"held_out_of": held_out_of})


@router.post("")
async def create_evaluation(
    request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    form = await request.form()
    chosen = [str(name) for name in form.getlist("candidates")]
    values = evaluation_form.values_of(form, chosen)
    try:
        spec = EvaluationSpec.model_validate(evaluation_form.spec_of(values))
        made = await creating.create_evaluation(services=services, owner=owner, spec=spec)
    except (GenPlatError, ValidationError) as error:
        shown = problems(error, evaluation_form.NAMES)
        return await run_in_threadpool(_form, services, owner, values, UNPROCESSABLE, **shown)
    return see_other(f"/evaluations/{made.id}")


@router.get("/{evaluation_id}")
def show_evaluation(
    evaluation_id: str,
    services: ServicesDep,
    owner: PageOwnerDep,
    order: str = "worst",
    metric: str = "",
    candidate: str = "",
    tag: str = "",
    after: int | None = None,
) -> Response:
    wanted = Wanted(
        next((one for one in ORDERS if one == order), "worst"),
        metric or None,
        int(candidate) if candidate.isdecimal() and len(candidate) < 3 else None,
        tag or None,
        after,
        SHOWN_EXAMPLES,
    )
    return _show(services, owner, evaluation_id, wanted)


@router.get("/{evaluation_id}/progress")
def show_progress(evaluation_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """How far it is; at its end the whole page is loaded anew."""
    found = _get(services, owner, evaluation_id)
    answer = fragment(TEMPLATE, "progress", evaluation=found)
    if found.is_terminal:
        answer.headers["HX-Refresh"] = "true"
    return answer


@router.post("/{evaluation_id}/{action}")
def act(evaluation_id: str, action: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    actions = {
        "cancel": views.cancel_evaluation,
        "resume": views.resume_evaluation,
        "delete": views.delete_evaluation,
    }
    if action not in actions:
        return see_other(f"/evaluations/{evaluation_id}")
    try:
        actions[action](database=services.database, owner=owner, evaluation_id=evaluation_id)
    except GenPlatError as error:
        if error.status == 404:
            raise
        return _show(services, owner, evaluation_id, Wanted("worst"), problem=error.message)
    services.evaluation_wanted.set()
    return see_other("/evaluations" if action == "delete" else f"/evaluations/{evaluation_id}")


def _get(services: Services, owner: str, evaluation_id: str) -> views.EvaluationView:
    return views.get_evaluation(
        database=services.database, owner=owner, evaluation_id=evaluation_id
    )


def _form(
    services: Services, owner: str, values: Values, status: int = 200, **shown: Any
) -> Response:
    datasets = store.list_datasets(database=services.database, owner=owner, limit=SHOWN_DATASETS)
    groups = evaluable_choices(services, owner)
    return page(
        "evaluations/new.html",
        status=status,
        datasets=[("", "None"), *map(dataset_choice, datasets.data)],
        runs=[("", "None"), *run_choices(services, owner)],
        groups=groups,
        judges=[("", "No judge"), *(choice for _, own in groups for choice in own)],
        tasks=TASKS,
        rubric=RUBRIC,
        values=values,
        **(no_problems() | shown),
    )


def _show(
    services: Services,
    owner: str,
    evaluation_id: str,
    wanted: Wanted,
    *,
    problem: str | None = None,
) -> Response:
    found = _get(services, owner, evaluation_id)
    names = dataset_names(database=services.database, ids={found.dataset_id})
    context: dict[str, Any] = {"shown": None, "examples": [], "has_more": False, "history": None}
    if found.results is not None:
        listed = list_examples(
            database=services.database, owner=owner, evaluation_id=evaluation_id, wanted=wanted
        )
        context = {
            "shown": shown_results(found.model_dump()),
            "examples": listed.data,
            "has_more": listed.has_more,
            "history": history_chart(
                database=services.database, owner=owner, evaluation=found, metric=wanted.metric
            ),
        }
    return page(
        TEMPLATE,
        evaluation=found,
        dataset=names[found.dataset_id],
        wanted=wanted,
        orders=[(one, _ORDER_NAMES[one]) for one in _ORDER_NAMES],
        problem=problem,
        **context,
    )
