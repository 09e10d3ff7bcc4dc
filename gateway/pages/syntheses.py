"""Syntheses: the list, the form, how one goes, and what became of it."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway.datasets import store
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.evaluations.views import get_evaluation, list_evaluations
from gateway.pages.html import UNPROCESSABLE, fragment, no_problems, page, problems, see_other
from gateway.pages.model_choices import Choice, chat_choices, dataset_choice
from gateway.services import Services
from gateway.synthesis import finishing, reviewing, views
from gateway.synthesis.filtering import REASONS
from gateway.synthesis.finishing import FinishSpec
from gateway.synthesis.spec import AXES, SynthesisSpec
from shared.errors import GenPlatError, NotFound
from shared.route_labels import UPSTREAM_PREFIX
from ui import synthesis_form
from ui.synthesis_form import Values

router = APIRouter(prefix="/syntheses", include_in_schema=False)

SHOWN = 100
_SHOWN_DROPPED = 20


@router.get("")
def list_syntheses(
    services: ServicesDep, owner: PageOwnerDep, after: str | None = None
) -> Response:
    found = views.list_syntheses(database=services.database, owner=owner, after=after)
    return page("syntheses/list.html", syntheses=found.data, has_more=found.has_more)


@router.get("/new")
def new_synthesis(
    services: ServicesDep, owner: PageOwnerDep, dataset_id: str = "", evaluation_id: str = ""
) -> Response:
    given = {"dataset_id": dataset_id, "evaluation_id": evaluation_id}
    return _form(services, owner, synthesis_form.EMPTY | given)


@router.get("/failures")
def choose_failures(
    services: ServicesDep,
    owner: PageOwnerDep,
    evaluation_id: str = "",
    metric: str = "",
    below: str = synthesis_form.EMPTY["below"],
) -> Response:
    """The part of the form that hangs on the evaluation."""
    found = _evaluation(services, owner, evaluation_id)
    return fragment(
        "syntheses/new.html",
        "failures",
        evaluation=found,
        values={
            "candidate": found["candidate"] if found else "",
            "metric": metric if found and (metric, metric) in found["metrics"] else "",
            "below": below,
        },
        **no_problems(),
    )


@router.post("")
async def create_synthesis(
    request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    form = await request.form()
    values = {name: str(form.get(name, "")) for name in synthesis_form.NAMES}
    values["leakage"] = " ".join(str(value) for value in form.getlist("leakage"))
    try:
        spec = SynthesisSpec.model_validate(synthesis_form.parse(values))
        made = await views.create_synthesis(services=services, owner=owner, spec=spec)
    except (GenPlatError, ValidationError) as error:
        shown = problems(error, synthesis_form.NAMES)
        return await run_in_threadpool(_form, services, owner, values, UNPROCESSABLE, **shown)
    return see_other(f"/syntheses/{made.id}")


@router.get("/{synthesis_id}")
def show_synthesis(synthesis_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    return _show(services, owner, synthesis_id)


@router.get("/{synthesis_id}/progress")
def show_progress(synthesis_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The panel alone; when it has ended, the browser loads the whole page."""
    found = _get(services, owner, synthesis_id)
    answer = fragment("syntheses/show.html", "progress", synthesis=found)
    if found.status not in ("queued", "running"):
        answer.headers["HX-Refresh"] = "true"
    return answer


@router.post("/{synthesis_id}/accept-all")
def accept_all(synthesis_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    reviewing.accept_all(database=services.database, owner=owner, synthesis_id=synthesis_id)
    return see_other(f"/syntheses/{synthesis_id}")


@router.post("/{synthesis_id}/finish")
async def finish(
    synthesis_id: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    include_seed = (await request.form()).get("include_seed") == "true"
    try:
        made = await run_in_threadpool(
            finishing.finish_synthesis,
            services=services,
            owner=owner,
            synthesis_id=synthesis_id,
            spec=FinishSpec(include_seed=include_seed),
        )
    except GenPlatError as error:
        if error.status == 404:
            raise
        return await run_in_threadpool(_show, services, owner, synthesis_id, error)
    return see_other(f"/datasets/{made.id}")


@router.post("/{synthesis_id}/cancel")
def cancel(synthesis_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    try:
        views.cancel_synthesis(database=services.database, owner=owner, synthesis_id=synthesis_id)
    except GenPlatError as error:
        if error.status == 404:
            raise
        return _show(services, owner, synthesis_id, error)
    return see_other(f"/syntheses/{synthesis_id}")


@router.post("/{synthesis_id}/delete")
def delete(synthesis_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    try:
        views.delete_synthesis(database=services.database, owner=owner, synthesis_id=synthesis_id)
    except GenPlatError as error:
        if error.status == 404:
            raise
        return _show(services, owner, synthesis_id, error)
    return see_other("/syntheses")


def _get(services: Services, owner: str, synthesis_id: str) -> views.SynthesisView:
    return views.get_synthesis(database=services.database, owner=owner, synthesis_id=synthesis_id)


def _show(
    services: Services, owner: str, synthesis_id: str, error: GenPlatError | None = None
) -> Response:
    found = _get(services, owner, synthesis_id)
    dropped, more = reviewing.list_rows(
        database=services.database,
        owner=owner,
        synthesis_id=synthesis_id,
        status="dropped",
        limit=_SHOWN_DROPPED,
    )
    return page(
        "syntheses/show.html",
        status=error.status if error else 200,
        synthesis=found,
        dataset=_dataset_name(services, owner, found.dataset_id),
        reasons=REASONS,
        dropped=dropped,
        more_dropped=more,
        problem=error.message if error else None,
    )


def _dataset_name(services: Services, owner: str, dataset_id: str | None) -> str | None:
    if dataset_id is None:
        return None
    try:
        found = store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    except NotFound:
        return "a dataset that is gone"
    return f"{found.name} v{found.version}"


def _form(
    services: Services, owner: str, values: Values, status: int = 200, **shown: Any
) -> Response:
    datasets = store.list_datasets(database=services.database, owner=owner, limit=SHOWN).data
    models = _models(services, owner)
    evaluation = _evaluation(services, owner, values["evaluation_id"])
    usual = evaluation["candidate"] if evaluation else ""
    return page(
        "syntheses/new.html",
        status=status,
        values=values | {"candidate": values["candidate"] or usual},
        models=models,
        datasets=[dataset_choice(dataset) for dataset in datasets],
        evaluations=_evaluations(services, owner),
        evaluation=evaluation,
        default_axes=AXES,
        **(no_problems() | shown),
    )


def _models(services: Services, owner: str) -> list[Choice]:
    groups = chat_choices(services, owner)
    upstreams = [f"{UPSTREAM_PREFIX}{name}" for name in services.upstreams.upstreams]
    own = [(value, f"{text} ({title.lower()})") for title, some in groups for value, text in some]
    return [*((name, f"{name} (service LLM)") for name in upstreams), *own]


def _evaluations(services: Services, owner: str) -> list[Choice]:
    found = list_evaluations(database=services.database, owner=owner, limit=SHOWN).data
    return [
        (one.id, f"{one.name}, {one.created_at:%d %b %H:%M}")
        for one in found
        if one.status == "succeeded"
    ]


def _evaluation(services: Services, owner: str, evaluation_id: str) -> dict[str, Any] | None:
    """What can be chosen of an evaluation: whose failures (``candidate``: at first those of the one
    beside the baseline, which shall learn), by what metric. None without one."""
    try:
        found = get_evaluation(database=services.database, owner=owner, evaluation_id=evaluation_id)
    except NotFound:
        return None
    candidates = [(str(place), one["name"]) for place, one in enumerate(found.candidates)]
    beside = [place for place, _ in candidates if place != str(found.baseline)]
    return {
        "candidates": candidates,
        "candidate": next(iter(beside), "0"),
        "metrics": [(name, name) for name in found.metrics],
    }
