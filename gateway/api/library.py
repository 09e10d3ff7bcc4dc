"""The library of base models over HTTP. Their ids hold a slash."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from gateway import library
from gateway.deps import ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.devices import largest_device, memory_needs
from gateway.idempotency import Claim
from gateway.library import LibraryItem
from gateway.services import Services
from shared.hardware import HardwareFacts
from shared.runs import Family, Method

router = APIRouter(prefix="/api/library", tags=["library"])

ModelId = Annotated[str, Field(min_length=3, max_length=193)]


class LibraryModelCreate(BaseModel):
    """A repository of the Hugging Face hub by its ``id``, or with ``folder`` a local copy: a
    path below GENPLAT_MODEL_ROOT."""

    model_config = ConfigDict(extra="forbid")

    id: ModelId
    name: str | None = Field(None, min_length=1, max_length=100)
    folder: str | None = Field(None, min_length=1, max_length=1000)
    context_length: int | None = Field(None, ge=16, le=1_048_576)


class MemoryNeedPublic(BaseModel):
    """What a method takes at its peak with default hyperparameters and rows as long as they may
    be. ``fits``: on the largest device of the workers; null while none is heard of."""

    method: Method
    bytes: int
    fits: bool | None


class LibraryModelPublic(BaseModel):
    """``missing``: only the hub has it. ``available``: its weights are on this machine.
    ``ready``: it can be trained and served. ``gated``: the hub hands it only to those who accepted
    its licence, and asks for HF_TOKEN. What nobody told is null or empty."""

    id: str
    name: str
    family: Family
    architecture: str | None
    tokenizer: str | None
    licence: str | None
    gated: bool
    parameters: int | None
    context_length: int
    chat_template: str
    task_prefix: str
    target_modules: tuple[str, ...]
    memory: list[MemoryNeedPublic]
    state: library.State
    error: str | None


class DevicePublic(BaseModel):
    """The largest device of the workers."""

    worker: str
    device: str
    memory_bytes: int
    precision: str


class LibraryList(ListPublic):
    data: list[LibraryModelPublic]
    device: DevicePublic | None


def public(item: LibraryItem, device: HardwareFacts | None) -> LibraryModelPublic:
    facts = item.entry.model_dump(exclude={"wheel", "folder", "shape"})
    needs = [MemoryNeedPublic(**need._asdict()) for need in memory_needs(item.entry, device)]
    return LibraryModelPublic(**facts, memory=needs, state=item.state, error=item.error)


async def _find(services: Services, owner: str, model_id: str) -> LibraryModelPublic:
    item = await run_in_threadpool(
        library.get_library_item,
        database=services.database,
        storage=services.storage,
        owner=owner,
        model_id=model_id,
    )
    return public(item, await largest_device(services.redis))


@router.get("")
async def list_library(owner: OwnerDep, services: ServicesDep) -> LibraryList:
    await library.settle_preparations(
        database=services.database, storage=services.storage, queue=services.queue
    )
    items = await run_in_threadpool(
        library.list_library, database=services.database, storage=services.storage, owner=owner
    )
    device = await largest_device(services.redis)
    return LibraryList(
        data=[public(item, device) for item in items],
        has_more=False,
        device=DevicePublic(**device.model_dump(include=set(DevicePublic.model_fields)))
        if device
        else None,
    )


@router.post("", status_code=201, response_model=LibraryModelPublic)
async def add_library_model(
    body: LibraryModelCreate, owner: OwnerDep, services: ServicesDep, once: OnceDep
) -> Response:
    async def create(claim: Claim | None) -> LibraryModelPublic:
        entry = await run_in_threadpool(
            library.add_library_model,
            database=services.database,
            owner=owner,
            import_root=services.settings.import_root,
            model_id=body.id,
            name=body.name,
            folder=body.folder,
            context_length=body.context_length,
            claim=claim,
        )
        return await _find(services, owner, entry.id)

    async def load(model_id: str) -> LibraryModelPublic:
        return await _find(services, owner, model_id)

    return await once(create, load=load)


@router.post("/{model_id:path}/prepare", status_code=202)
async def prepare_model(
    model_id: str, owner: OwnerDep, services: ServicesDep
) -> LibraryModelPublic:
    """Fetch and convert the model once, so that it can be trained and served."""
    item = await library.prepare(
        database=services.database,
        storage=services.storage,
        queue=services.queue,
        owner=owner,
        model_id=model_id,
    )
    return public(item, await largest_device(services.redis))


@router.get("/{model_id:path}")
async def get_library_model(
    model_id: str, owner: OwnerDep, services: ServicesDep
) -> LibraryModelPublic:
    await library.settle_preparations(
        database=services.database, storage=services.storage, queue=services.queue
    )
    return await _find(services, owner, model_id)
