"""What of a loop can be known to be wrong before hours of training are spent on it."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from sqlmodel import Session, select

from gateway.datasets.store import get_dataset
from gateway.evaluations.candidates import resolve
from gateway.evaluations.views import EvaluationView, get_evaluation
from gateway.loops.spec import LoopSpec, run_spec
from gateway.orchestrator.routes import check_name_is_free
from gateway.run_views import get_run
from gateway.runs import checked_spec
from gateway.services import Services
from gateway.tables import Loop, Route
from gateway.validation import refusal
from shared.errors import Conflict, InvalidData, NotFound
from shared.runs import FineTuneSpec

# What a judge measures, by what it is asked for.
_JUDGED = {"similarity": "judge_similarity", "quality": "judge_preference"}


def check_what_is_repeated(services: Services, owner: str, spec: LoopSpec) -> None:
    """`InvalidData` that names the field: what would be found out after a training is told now."""
    database, storage = services.database, services.storage
    with _naming("dataset_id"):
        get_dataset(database=database, owner=owner, dataset_id=spec.dataset_id)
    with _naming("like_run"):
        run = get_run(database=database, owner=owner, run_id=spec.like_run)
    with _naming("like_evaluation"):
        earlier = get_evaluation(database=database, owner=owner, evaluation_id=spec.like_evaluation)
    resolve(services, owner, spec.baseline or spec.like_run, param="baseline")
    try:
        wanted = FineTuneSpec.model_validate(run_spec(run.spec, spec.dataset_id))
        checked_spec(database=database, storage=storage, owner=owner, spec=wanted)
    except ValidationError as error:
        raise InvalidData(f"like_run: {refusal(error).message}", param="like_run") from error
    unknown = [rule for rule in spec.rules if rule.metric not in _measured(earlier)]
    if unknown:
        known = ", ".join(_measured(earlier))
        raise InvalidData(
            f"rules: {earlier.id} does not measure {unknown[0].metric}, but {known}.",
            param="rules",
        )


@contextmanager
def _naming(param: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise InvalidData(f"{param}: {error.message}", param=param) from error


def _measured(evaluation: EvaluationView) -> list[str]:
    kinds = (evaluation.spec.get("judge") or {}).get("kinds", ())
    return [*evaluation.metrics, *(_JUDGED[kind] for kind in kinds)]


def check_names(session: Session, owner: str, spec: LoopSpec) -> None:
    """The names that the loop will give must be free, now and of what other loops will make."""
    if spec.route == spec.deployment:
        raise InvalidData("route: a deployment has this name already.", param="route")
    running = session.exec(select(Loop).where(Loop.status == "running")).all()
    if any(loop.spec["deployment"] == spec.deployment for loop in running):
        raise _taken("deployment", f"Another loop makes a deployment {spec.deployment!r}.")
    route = session.get(Route, spec.route) if spec.route is not None else None
    names = {"deployment": spec.deployment}
    if spec.route is not None and (route is None or route.owner != owner):
        names["route"] = spec.route
    for param, name in names.items():
        try:
            check_name_is_free(session, name)
        except Conflict as error:
            raise _taken(param, error.message) from error


def _taken(param: str, message: str) -> Conflict:
    return Conflict(f"{param}: {message}", code="name_taken", param=param)
