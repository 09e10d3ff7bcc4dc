"""Deployments: models served under a name. The rows say what should be; `DeploymentLoader` makes
the inference service hold it. Knows no HTTP."""

import asyncio
import logging
import time
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select, update

from gateway import preparation
from gateway.checkpoint_files import forget, put_aside
from gateway.database import Database
from gateway.evaluations.gates import Gate
from gateway.evaluations.required import check_gate
from gateway.idempotency import Attached
from gateway.inference_client import NOT_PREPARED
from gateway.models import find_weights
from gateway.orchestrator.plans import deployment_ref
from gateway.orchestrator.routes import NAME_PATTERN, check_name_is_free
from gateway.paging import DEFAULT_LIMIT, Page, paginate
from gateway.services import Services
from gateway.tables import Deployment
from shared.chat import LoadedModel
from shared.errors import Conflict, GenPlatError, NotFound, TimedOut, Unavailable
from shared.storage import Storage

log = logging.getLogger(__name__)

# A model that could not be loaded is tried again after so long: its trouble may have passed.
RETRY_SECONDS = 60.0


class DeploymentSpec(BaseModel):
    """``model``: a run's id, a fine-tuned model's name, or a model of the library. ``checkpoint``:
    a step of that run, whose weights are served instead of its result; ``:ckpt-step-N`` behind
    ``model`` says the same. ``require``: rules that an evaluation of this model must bear out."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    model: str = Field(min_length=1, max_length=500)
    checkpoint: int | None = Field(None, ge=1, le=1_000_000)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    require: Gate | None = None


class DeploymentView(BaseModel):
    """A deployment as its owner sees it."""

    name: str
    model: str
    base_model: str
    run_id: str | None
    checkpoint: int | None
    state: str
    error: str | None
    precision: str
    parity: None = None
    url: str
    docs_url: str
    gate: dict[str, Any] | None
    created_at: datetime


def view_of(deployment: Deployment) -> DeploymentView:
    place = f"/api/deployments/{deployment.name}"
    return DeploymentView(
        url=f"{place}/predict", docs_url=f"{place}/docs", **deployment.model_dump(exclude={"owner"})
    )


async def create_deployment(
    *, services: Services, owner: str, spec: DeploymentSpec, claim: Attached | None = None
) -> DeploymentView:
    """Note what is to be served; it is loaded in the background."""
    deployment = await asyncio.to_thread(_insert, services, owner, spec, claim)
    services.feed.sweep_wanted.set()
    return view_of(deployment)


def _insert(
    services: Services, owner: str, spec: DeploymentSpec, claim: Attached | None
) -> Deployment:
    weights = find_weights(
        database=services.database,
        storage=services.storage,
        owner=owner,
        model=spec.model,
        checkpoint=spec.checkpoint,
    )
    gate = None
    if spec.require is not None:
        gate = check_gate(
            database=services.database, owner=owner, gate=spec.require, weights=weights
        )
    try:
        with services.database.write() as session:
            check_name_is_free(session, spec.name)
            deployment = Deployment(
                owner=owner,
                base_model=weights.base_model,
                run_id=weights.run_id,
                checkpoint=weights.checkpoint,
                gate=gate,
                **spec.model_dump(exclude={"checkpoint", "require"}),
            )
            session.add(deployment)
            session.flush()
            if claim is not None:
                claim.attach(session, deployment.name)
    except IntegrityError as error:
        raise Conflict(
            f"The name {spec.name!r} was taken, or its run deleted, at this very moment.",
            param="name",
        ) from error
    return deployment


def list_deployments(
    *, database: Database, owner: str, after: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[DeploymentView]:
    with database.read() as session:
        page = paginate(
            session=session,
            query=select(Deployment).where(Deployment.owner == owner),
            table=Deployment,
            key=Deployment.name,
            after=after,
            limit=limit,
        )
    return Page([view_of(deployment) for deployment in page.data], page.has_more)


def get_deployment(*, database: Database, owner: str, name: str) -> DeploymentView:
    with database.read() as session:
        return view_of(_owned(session, owner, name))


def _owned(session: Session, owner: str, name: str) -> Deployment:
    deployment = session.get(Deployment, name)
    if deployment is None or deployment.owner != owner:
        raise NotFound(f"There is no deployment {name[:80]!r}.", param="name")
    return deployment


async def delete_deployment(*, services: Services, owner: str, name: str) -> None:
    """Stop serving a name. Where the inference service is away, the reconciler tells it later."""
    await asyncio.to_thread(_delete, services.database, services.storage, owner, name)
    try:
        await services.inference.unload(name)
    except GenPlatError as error:
        log.warning("The deployment %s is unloaded later: %s", name, error.message)


def _delete(database: Database, storage: Storage, owner: str, name: str) -> None:
    with database.write() as session:
        deployment = _owned(session, owner, name)
        session.delete(deployment)
    if deployment.run_id is not None and deployment.checkpoint is not None:
        forget(database, storage, deployment.run_id, deployment.checkpoint)


class DeploymentLoader:
    """Brings what the inference service holds in line with the rows, one sweep at a time."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._loads: dict[str, asyncio.Task[None]] = {}
        # By name and time of making: another deployment may take a name that failed.
        self._retry_at: dict[tuple[str, datetime], float] = {}

    async def settle(self) -> None:
        """Start the loads that are missing, end those that are too many, note how each stands."""
        wanted = await asyncio.to_thread(self._rows)
        try:
            held = {model.name: model for model in await self._services.inference.models()}
        except (Unavailable, TimedOut):
            for row in wanted:
                if row.state == "ready":
                    await self._note(row, "loading", "The inference service is not reachable.")
            raise
        names = {row.name for row in wanted}
        for name in held:
            # Names with a slash are models that were loaded for a request, without a deployment.
            if "/" not in name and name not in names:
                await self._services.inference.unload(name)
        for row in wanted:
            await self._settle_one(row, held.get(row.name))
        self._loads = {name: task for name, task in self._loads.items() if not task.done()}

    async def close(self) -> None:
        for task in self._loads.values():
            task.cancel()
        await asyncio.gather(*self._loads.values(), return_exceptions=True)

    async def _settle_one(self, row: Deployment, held: LoadedModel | None) -> None:
        if held is not None and held.ref == deployment_ref(row) and held.state != "failed":
            await self._note(row, held.state, None)
        elif row.name in self._loads and not self._loads[row.name].done():
            return
        elif time.monotonic() >= self._retry_at.get((row.name, row.created_at), 0):
            await self._note(row, "loading", None)
            self._loads[row.name] = asyncio.create_task(self._load(row))

    async def _load(self, row: Deployment) -> None:
        """Load one model and wait for it; several load side by side."""
        try:
            if row.run_id is not None and row.checkpoint is not None:
                # Another deployment of it may have been the last one a moment ago.
                await asyncio.to_thread(
                    put_aside, self._services.storage, row.run_id, row.checkpoint
                )
            loaded = await self._services.inference.load(row.name, deployment_ref(row))
            await self._note(row, loaded.state, loaded.error)
            if loaded.state != "failed":
                self._retry_at.pop((row.name, row.created_at), None)
                return
        except (Unavailable, TimedOut) as error:
            log.info("The deployment %s waits: %s", row.name, error.message)
            return
        except GenPlatError as error:
            if error.code == NOT_PREPARED:
                await self._prepare(row)
                return
            await self._note(row, "failed", error.message)
        self._retry_at[row.name, row.created_at] = time.monotonic() + RETRY_SECONDS

    async def _prepare(self, row: Deployment) -> None:
        """Have the base model prepared; a later sweep loads it."""
        try:
            await preparation.ensure(
                services=self._services, owner=row.owner, model_id=row.base_model
            )
        except GenPlatError as error:
            await self._note(row, "failed", error.message)
            self._retry_at[row.name, row.created_at] = time.monotonic() + RETRY_SECONDS

    def _rows(self) -> list[Deployment]:
        with self._services.database.read() as session:
            return list(session.exec(select(Deployment)).all())

    async def _note(self, row: Deployment, state: str, error: str | None) -> None:
        if (row.state, row.error) == (state, error):
            return
        row.state, row.error = state, error
        await asyncio.to_thread(self._store, row.name, state, error)

    def _store(self, name: str, state: str, error: str | None) -> None:
        with self._services.database.write() as session:
            statement = update(Deployment).where(Deployment.name == name)  # type: ignore[arg-type]
            session.exec(statement.values(state=state, error=error))
