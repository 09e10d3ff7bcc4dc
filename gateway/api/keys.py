"""API keys over HTTP."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from gateway import keys
from gateway.deps import ListDep, ListPublic, OnceDep, OwnerDep, ServicesDep
from gateway.idempotency import Claim
from gateway.moments import Moment
from gateway.scopes import Scope
from gateway.tables import ApiKey

router = APIRouter(prefix="/api/keys", tags=["keys"])


Limit = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]


class KeyCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    scopes: list[Scope] = Field(
        ["admin"],
        min_length=1,
        description="infer: ask models. train: data, runs and reading. read. admin: everything.",
    )
    expires_at: Moment | None = None
    requests_per_minute: Limit | None = Field(None, description="To models; null: any number.")
    tokens_per_minute: Limit | None = Field(None, description="Read and written; null: any number.")


class KeyPublic(BaseModel):
    """``hint`` is how the key begins."""

    id: str
    name: str
    hint: str
    scopes: list[Scope]
    expires_at: datetime | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    created_at: datetime
    last_used_at: datetime | None


class KeyCreated(KeyPublic):
    """``key`` is shown this once; a repeat under the same Idempotency-Key finds null."""

    key: str | None


class KeyList(ListPublic):
    data: list[KeyPublic]


def public(key: ApiKey) -> KeyPublic:
    return KeyPublic.model_validate(key, from_attributes=True)


@router.post("", status_code=201, response_model=KeyCreated)
async def create_key(
    body: KeyCreate, owner: OwnerDep, services: ServicesDep, once: OnceDep
) -> Response:
    async def create(_claim: Claim | None) -> KeyCreated:
        key, secret = await run_in_threadpool(
            keys.create_key,
            database=services.database,
            owner=owner,
            name=body.name,
            scopes=body.scopes,
            expires_at=body.expires_at,
            requests_per_minute=body.requests_per_minute,
            tokens_per_minute=body.tokens_per_minute,
        )
        return KeyCreated(**public(key).model_dump(), key=secret)

    return await once(create, withheld="key")


@router.get("")
def list_keys(owner: OwnerDep, services: ServicesDep, query: ListDep) -> KeyList:
    page = keys.list_keys(
        database=services.database, owner=owner, after=query.after, limit=query.limit
    )
    return KeyList(data=[public(key) for key in page.data], has_more=page.has_more)


@router.delete("/{key_id}", status_code=204, response_class=Response)
def revoke_key(key_id: str, owner: OwnerDep, services: ServicesDep) -> None:
    keys.revoke_key(database=services.database, owner=owner, key_id=key_id)
