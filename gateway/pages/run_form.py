"""The form that starts a run: empty, like an earlier run, or going on from one."""

import contextlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from gateway import run_views, runs
from gateway.datasets import store
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import UNPROCESSABLE, page, problems, see_other
from gateway.pages.model_choices import (
    Choice,
    base_model_choices,
    continue_choices,
    dataset_choice,
)
from gateway.services import Services
from shared.errors import GenPlatError, NotFound
from ui import run_fields, run_form
from ui.run_form import Values

router = APIRouter(prefix="/runs", include_in_schema=False)

SHOWN_DATASETS = 100
GONE = "This dataset is gone. Choose another one."


@router.get("/new")
def new_run(
    services: ServicesDep,
    owner: PageOwnerDep,
    dataset_id: str = "",
    like: str = "",
    go_on: Annotated[str, Query(alias="continue")] = "",
) -> Response:
    """``like``: a run to repeat. ``continue``: a run, or one of its checkpoints, to go on from."""
    values = run_form.initial_values(dataset_id=dataset_id)
    if earlier := like or go_on.partition(":")[0]:
        run = run_views.get_run(database=services.database, owner=owner, run_id=earlier)
        values = run_form.values_like(run.spec)
    if go_on:
        values["continue_from"] = go_on
    return show_form(services, owner, values)


@router.post("")
async def create_run(request: Request, services: ServicesDep, owner: PageOwnerDep) -> Response:
    values = await submitted(request)
    spec, errors = run_form.parse(values)
    shown: dict[str, Any] = {"errors": errors}
    if spec is not None:
        try:
            run = await runs.create_run(services=services, owner=owner, spec=spec)
            return see_other(f"/runs/{run.id}")
        except GenPlatError as error:
            shown = problems(error, run_form.NAMES)
    return await run_in_threadpool(show_form, services, owner, values, UNPROCESSABLE, **shown)


async def submitted(request: Request) -> Values:
    """The form as the browser sent it."""
    form = await request.form()
    return run_form.submitted_values(
        {name: [text for text in form.getlist(name) if isinstance(text, str)] for name in form}
    )


def show_form(
    services: Services,
    owner: str,
    values: Values,
    status: int = 200,
    *,
    errors: dict[str, str] | None = None,
    error: str | None = None,
) -> Response:
    """The form with all that was typed, and what is wrong with it beside each field."""
    more = [row["id"] for row in values["datasets"]]
    wanted = [values["dataset_id"], values["validation_dataset_id"], *more]
    choices = _dataset_choices(services, owner, [name for name in wanted if name])
    errors = _gone(values, {value for value, _ in choices}) | (errors or {})
    return page(
        "runs/new.html",
        status=status,
        datasets=choices,
        validation_datasets=[run_fields.NO_VALIDATION_DATASET, *choices],
        validation_split=run_fields.VALIDATION_SPLIT,
        base_models=base_model_choices(services, owner),
        continue_choices=continue_choices(services, owner, values["continue_from"]),
        values=values,
        mix_rows=run_form.rows_to_show(values),
        groups=run_fields.GROUPS,
        methods=run_fields.METHODS,
        presets=run_fields.PRESETS,
        open_mix=run_form.mixes(values, errors),
        open_advanced=run_form.changed_advanced(values, errors),
        errors=errors,
        error=error or errors.get(""),
    )


def _gone(values: Values, known: set[str]) -> dict[str, str]:
    names = ("dataset_id", "validation_dataset_id")
    gone = {name: GONE for name in names if values[name] and values[name] not in known}
    if any(row["id"] not in known for row in values["datasets"]):
        gone["datasets"] = GONE
    return gone


def _dataset_choices(services: Services, owner: str, wanted: list[str]) -> list[Choice]:
    """The newest datasets, and those that are wanted, however old."""
    asked: dict[str, Any] = {"database": services.database, "owner": owner}
    found = store.list_datasets(**asked, limit=SHOWN_DATASETS).data
    for dataset_id in wanted:
        if dataset_id not in {dataset.id for dataset in found}:
            with contextlib.suppress(NotFound):
                found.append(store.get_dataset(**asked, dataset_id=dataset_id))
    return [dataset_choice(dataset) for dataset in found]
