"""`/v1/models`: every name that chat accepts, in OpenAI's shape."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from gateway import models, runs
from gateway.deps import OwnerDep, ServicesDep
from gateway.services import Services
from shared.errors import Forbidden, NotFound

router = APIRouter(prefix="/v1/models", tags=["OpenAI"])


class ModelPublic(BaseModel):
    id: str
    object: str = "model"
    created: int
    owned_by: str


class ModelListPublic(BaseModel):
    object: str = "list"
    data: list[ModelPublic]


class DeletedPublic(BaseModel):
    id: str
    object: str = "model"
    deleted: bool = True


@router.get("")
def list_models(services: ServicesDep, owner: OwnerDep) -> ModelListPublic:
    """Routes, deployments, fine-tuned models, and base models whose weights are on disk."""
    return ModelListPublic(data=[_public(model) for model in _served(services, owner)])


@router.get("/{model_id:path}")
def get_model(model_id: str, services: ServicesDep, owner: OwnerDep) -> ModelPublic:
    return _public(_find(services, owner, model_id))


@router.delete("/{model_id:path}")
async def delete_model(model_id: str, services: ServicesDep, owner: OwnerDep) -> DeletedPublic:
    """Remove a fine-tuned model, with the run that made it."""
    model = await run_in_threadpool(_find, services, owner, model_id)
    if model.run_id is None:
        raise Forbidden(
            f"{model.id!r} is a {model.kind}, not a fine-tuned model. Deployments and routes are "
            "deleted through /api/deployments and /api/routes; base models stay.",
            param="model",
        )
    await runs.delete_run(services=services, owner=owner, run_id=model.run_id)
    return DeletedPublic(id=model.id)


def _served(services: Services, owner: str) -> list[models.ServedModel]:
    return models.list_served_models(
        database=services.database, storage=services.storage, owner=owner
    )


def _find(services: Services, owner: str, model_id: str) -> models.ServedModel:
    for model in _served(services, owner):
        if model.id == model_id:
            return model
    raise NotFound(f"There is no model {model_id[:200]!r}.", code="model_not_found", param="model")


def _public(model: models.ServedModel) -> ModelPublic:
    return ModelPublic(
        id=model.id, created=_seconds(model.created_at), owned_by=f"genplat-{model.kind}"
    )


def _seconds(time: datetime | None) -> int:
    return int(time.timestamp()) if time else 0
