"""Who answers in an evaluation: names as users know them, and what is asked for each."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from sqlmodel import Session

from gateway.model_names import checkpoint_model, find_run, fine_tuned_model, split_checkpoint
from gateway.models import plan_unnamed
from gateway.services import Services
from gateway.tables import Deployment, Route, Run
from shared.errors import InvalidData, NotFound
from shared.route_labels import UPSTREAM_PREFIX

Kind = Literal["base", "run", "checkpoint", "deployment", "route", "upstream"]


@dataclass(frozen=True)
class Candidate:
    """``name`` as the user said it; ``model`` is asked; ``run_id``: what it learned from, where a
    run has made it."""

    name: str
    model: str
    kind: Kind
    run_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def resolve(services: Services, owner: str, name: str, *, param: str) -> Candidate:
    """InvalidData, naming ``param``, where nobody answers to this name."""
    if name.startswith(UPSTREAM_PREFIX):
        return _upstream(services, name, param)
    with services.database.read() as session:
        route = session.get(Route, name)
        if route is not None and route.owner == owner:
            return Candidate(name, name, "route")
        deployment = session.get(Deployment, name)
        if deployment is not None and deployment.owner == owner:
            return Candidate(name, name, "deployment", deployment.run_id)
        plain, step = split_checkpoint(name)
        run = find_run(session, owner, plain)
    if run is not None:
        return _of_run(name, run, step, param)
    find = partial(plan_unnamed, database=services.database, storage=services.storage, owner=owner)
    try:
        find(model=name)
    except NotFound as error:
        raise InvalidData(
            f"{param}: there is no model {name[:200]!r}. GET /v1/models lists those that can "
            "answer; runs go by their ids, service LLMs by upstream/NAME.",
            param=param,
        ) from error
    return Candidate(name, name, "base")


def _upstream(services: Services, name: str, param: str) -> Candidate:
    if name.removeprefix(UPSTREAM_PREFIX) not in services.upstreams.upstreams:
        raise InvalidData(
            f"{param}: there is no {name[:80]!r}. GET /api/upstreams lists what is declared.",
            param=param,
        )
    return Candidate(name, name, "upstream")


def _of_run(name: str, run: Run, step: int | None, param: str) -> Candidate:
    if step is not None:
        return Candidate(name, checkpoint_model(run, step), "checkpoint", run.id)
    if run.status != "succeeded":
        raise InvalidData(
            f"{param}: the run {run.id} is {run.status}; only one that succeeded has a model. Its "
            f"checkpoints can be asked before: {run.id}:ckpt-step-N.",
            param=param,
        )
    return Candidate(name, fine_tuned_model(run), "run", run.id)


def run_of(session: Session, owner: str, name: str) -> Run:
    """The run whose held-out rows are asked."""
    run = find_run(session, owner, split_checkpoint(name)[0])
    if run is None:
        raise InvalidData(
            f"held_out_of names no run of yours: {name[:200]!r}.", param="held_out_of"
        )
    return run
