"""Which model answers to a name: routes, deployments, base models on disk, finished runs."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from gateway import library
from gateway.checkpoint_files import put_aside
from gateway.database import Database
from gateway.model_names import find_run, split_checkpoint
from gateway.orchestrator.plans import Plan, Target
from gateway.tables import Deployment, Route, Run
from shared.chat import ModelRef
from shared.errors import InvalidData, NotFound
from shared.model_library import has_local_weights
from shared.storage import Storage

MAX_LISTED = 1000


@dataclass(frozen=True)
class ServedModel:
    """A name that chat accepts."""

    id: str
    kind: str
    created_at: datetime | None
    run_id: str | None = None


@dataclass(frozen=True)
class Weights:
    """What a user's name for a model stands for when something is to be deployed."""

    base_model: str
    run_id: str | None
    checkpoint: int | None = None


def plan_unnamed(*, database: Database, storage: Storage, owner: str, model: str) -> Plan:
    """Whom to ask for what is neither a route nor a deployment: a base model whose weights are on
    disk, else what a run made."""
    with database.read() as session:
        run, step = _fine_tuned(session, owner, model)
    if _on_disk(database, storage, owner, model):
        return Plan(model, None, (Target(model, f"base/{model}", ModelRef(base_model=model)),))
    if run is not None:
        if step is not None:
            put_aside(storage, run.id, step)
        ref = ModelRef(base_model=run.base_model, run_id=run.id, checkpoint=step)
        return Plan(model, None, (Target(model, run_engine_name(run.id, step), ref),))
    raise NotFound(
        f"There is no model {model[:200]!r}. GET /v1/models lists those that can answer.",
        code="model_not_found",
        param="model",
    )


def run_engine_name(run_id: str, checkpoint: int | None = None) -> str:
    """Under which a run's model is loaded when it is asked for without a deployment."""
    return f"run/{run_id}" if checkpoint is None else f"run/{run_id}/step-{checkpoint}"


def is_engine_name_of(name: str, run_id: str) -> bool:
    return f"{name}/".startswith(f"{run_engine_name(run_id)}/")


def _on_disk(database: Database, storage: Storage, owner: str, model: str) -> bool:
    try:
        item = library.get_library_item(
            database=database, storage=storage, owner=owner, model_id=model
        )
    except NotFound:
        return False
    return has_local_weights(storage, item.entry)


def _fine_tuned(session: Session, owner: str, model: str) -> tuple[Run | None, int | None]:
    """What a fine-tuned model's name stands for: a run that succeeded, or a checkpoint of one that
    may be in training still."""
    name, step = split_checkpoint(model)
    if step is not None:
        return find_run(session, owner, name) if name.startswith("ft:") else None, step
    query = select(Run).where(
        Run.owner == owner, Run.fine_tuned_model == model, Run.status == "succeeded"
    )
    return session.exec(query).first(), None


def find_weights(
    *,
    database: Database,
    storage: Storage,
    owner: str,
    model: str,
    checkpoint: int | None = None,
) -> Weights:
    """What to deploy for a run's id, a fine-tuned model's name or a library id; the first two also
    with ``:ckpt-step-N`` behind them, which is the same as a ``checkpoint``."""
    name, step = split_checkpoint(model)
    with database.read() as session:
        run = find_run(session, owner, name)
    if run is not None:
        return _run_weights(storage, run, _one_of(checkpoint, step))
    if checkpoint is not None:
        raise InvalidData(
            f"checkpoint: {model[:200]!r} is no run of yours, and only runs have checkpoints.",
            param="checkpoint",
        )
    try:
        item = library.get_library_item(
            database=database, storage=storage, owner=owner, model_id=model
        )
    except NotFound as error:
        raise InvalidData(
            f"model {model[:200]!r} is neither a run of yours nor in the model library.",
            param="model",
        ) from error
    return Weights(item.entry.id, None)


def _one_of(checkpoint: int | None, step: int | None) -> int | None:
    if checkpoint is not None and step not in (None, checkpoint):
        raise InvalidData(
            f"checkpoint is {checkpoint}, but model names step {step}. Leave one of them out.",
            param="checkpoint",
        )
    return step if checkpoint is None else checkpoint


def _run_weights(storage: Storage, run: Run, checkpoint: int | None) -> Weights:
    if checkpoint is not None:
        put_aside(storage, run.id, checkpoint)
    elif run.status != "succeeded":
        raise InvalidData(
            f"model: the run {run.id} is {run.status}; only a run that succeeded has a model. Its "
            "checkpoints can be deployed before.",
            param="model",
        )
    return Weights(run.base_model, run.id, checkpoint)


def list_served_models(*, database: Database, storage: Storage, owner: str) -> list[ServedModel]:
    """Every name that chat accepts: routes, deployments, fine-tuned models, base models on disk."""
    with database.read() as session:
        routes = session.exec(select(Route).where(Route.owner == owner).limit(MAX_LISTED)).all()
        deployments = session.exec(
            select(Deployment).where(Deployment.owner == owner).limit(MAX_LISTED)
        ).all()
        runs = session.exec(
            select(Run)
            .where(Run.owner == owner, Run.status == "succeeded")
            .order_by(col(Run.created_at).desc())
            .limit(MAX_LISTED)
        ).all()
    library_items = library.list_library(database=database, storage=storage, owner=owner)
    return [
        *(ServedModel(route.name, "route", route.created_at) for route in routes),
        *(ServedModel(found.name, "deployment", found.created_at) for found in deployments),
        *(
            ServedModel(run.fine_tuned_model, "fine-tuned", run.finished_at, run.id)
            for run in runs
            if run.fine_tuned_model
        ),
        *(
            ServedModel(item.entry.id, "base", None)
            for item in library_items
            if has_local_weights(storage, item.entry)
        ),
    ]
