"""Deployments: what is served under which name, how to call it, and a box to try it."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from gateway import completions, deployments
from gateway.api.disconnects import unless_gone
from gateway.deployments import DeploymentSpec
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.evaluations.views import get_evaluation
from gateway.pages.html import (
    UNPROCESSABLE,
    base_url,
    fragment,
    no_problems,
    page,
    page_origin,
    problems,
    see_other,
)
from gateway.pages.model_choices import deployable_choices, evaluation_choices
from gateway.request_log.entries import Origin
from gateway.services import Services
from shared.chat import ChatMessage, ChatRequest
from shared.errors import GenPlatError, InvalidData, NotFound
from ui.snippets import chat_snippets

router = APIRouter(prefix="/deployments", include_in_schema=False)

REQUIRE = "require"
# What a difference should be worth, of metrics from 0 to 1 and from 0 to 100.
_MARGINS = {"share": " + 0.05", "points": " + 1"}
FIELDS = ("name", "model", "precision", REQUIRE)
NO_EVALUATION = ("", "None")
PRECISIONS = [("auto", "auto"), ("fp32", "fp32: exact"), ("bf16", "bf16: half the memory")]
TRY_TOKENS = 512


@router.get("")
def list_deployments(
    services: ServicesDep, owner: PageOwnerDep, after: str | None = None
) -> Response:
    found = deployments.list_deployments(database=services.database, owner=owner, after=after)
    return page("deployments/list.html", deployments=found.data, has_more=found.has_more)


@router.get("/new")
def new_deployment(
    services: ServicesDep, owner: PageOwnerDep, model: str = "", evaluation: str = ""
) -> Response:
    values = {"model": model, "name": "", "precision": "auto"}
    rules = _usual_rule(services, owner, evaluation) if evaluation else ""
    return _form(services, owner, values | {"evaluation": evaluation, "rules": rules})


@router.post("")
async def create_deployment(
    services: ServicesDep,
    owner: PageOwnerDep,
    name: Annotated[str, Form()] = "",
    model: Annotated[str, Form()] = "",
    precision: Annotated[str, Form()] = "auto",
    evaluation: Annotated[str, Form()] = "",
    rules: Annotated[str, Form()] = "",
) -> Response:
    """``rules``: one a line, which the evaluation must bear out."""
    values = {"name": name.strip(), "model": model, "precision": precision}
    named = [rule.strip() for rule in rules.split("\n") if rule.strip()]
    require = {"require": {"evaluation": evaluation, "rules": named}} if evaluation else {}
    try:
        if named and not evaluation:
            raise InvalidData(
                "Choose the evaluation that has to bear the rules out.", param=REQUIRE
            )
        spec = DeploymentSpec.model_validate(values | require)
        await deployments.create_deployment(services=services, owner=owner, spec=spec)
    except (GenPlatError, ValidationError) as error:
        shown = problems(error, FIELDS)
        values |= {"evaluation": evaluation, "rules": rules}
        return await run_in_threadpool(_form, services, owner, values, UNPROCESSABLE, **shown)
    return see_other(f"/deployments/{spec.name}")


@router.get("/{name}")
def show_deployment(
    name: str, request: Request, services: ServicesDep, owner: PageOwnerDep
) -> Response:
    return _show(request, services, owner, name)


@router.get("/{name}/state")
def show_state(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    """The state alone; the page asks for it while the model is loaded."""
    found = deployments.get_deployment(database=services.database, owner=owner, name=name)
    return fragment("deployments/show.html", "state", deployment=found)


@router.post("/{name}/try")
async def try_deployment(
    name: str,
    request: Request,
    services: ServicesDep,
    owner: PageOwnerDep,
    inputs: Annotated[str, Form()] = "",
) -> Response:
    status, shown = 200, {}
    try:
        work = _answer(services, owner, name, inputs, page_origin(request))
        shown = {"output": await unless_gone(request, work)}
    except (GenPlatError, ValidationError) as error:
        status, shown = UNPROCESSABLE, problems(error, ["inputs"])
    return await run_in_threadpool(
        _show, request, services, owner, name, status, inputs=inputs, **shown
    )


@router.post("/{name}/delete")
async def delete_deployment(name: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    await deployments.delete_deployment(services=services, owner=owner, name=name)
    return see_other("/deployments")


async def _answer(services: Services, owner: str, name: str, inputs: str, origin: Origin) -> str:
    request = ChatRequest(
        model=name, messages=[ChatMessage(role="user", content=inputs)], max_tokens=TRY_TOKENS
    )
    answer = await completions.complete(
        services=services, owner=owner, request=request, origin=origin
    )
    return str(answer.body["choices"][0]["message"]["content"])


def _usual_rule(services: Services, owner: str, evaluation_id: str) -> str:
    """That it is better by what the evaluation looks at first; empty where there is none."""
    try:
        found = get_evaluation(database=services.database, owner=owner, evaluation_id=evaluation_id)
    except NotFound:
        return ""
    if found.results is None:
        return ""
    metric = found.results["metrics"][0]
    if metric["better"] == "lower":
        return f"{metric['name']} <= base"
    return f"{metric['name']} >= base" + _MARGINS.get(metric["unit"], "")


def _form(
    services: Services, owner: str, values: dict[str, str], status: int = 200, **shown: Any
) -> Response:
    return page(
        "deployments/new.html",
        status=status,
        models=deployable_choices(services, owner),
        precisions=PRECISIONS,
        evaluations=[NO_EVALUATION, *evaluation_choices(services, owner)],
        values=values,
        **(no_problems() | shown),
    )


def _show(
    request: Request,
    services: Services,
    owner: str,
    name: str,
    status: int = 200,
    *,
    inputs: str = "",
    output: str | None = None,
    **shown: Any,
) -> Response:
    return page(
        "deployments/show.html",
        status=status,
        deployment=deployments.get_deployment(database=services.database, owner=owner, name=name),
        snippets=chat_snippets(base_url(request), name),
        values={"inputs": inputs},
        output=output,
        **(no_problems() | shown),
    )
