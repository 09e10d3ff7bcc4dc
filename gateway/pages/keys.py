"""API keys: made, shown once, revoked."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import Response

from gateway import keys
from gateway.deps import PageOwnerDep, ServicesDep
from gateway.pages.html import UNPROCESSABLE, no_problems, page, problems, see_other
from gateway.scopes import Scope
from gateway.services import Services
from gateway.tables import now
from shared.errors import GenPlatError, InvalidRequest

router = APIRouter(prefix="/keys", include_in_schema=False)

MOST = 1_000_000_000


EMPTY = {
    "name": "",
    "scope": "admin",
    "days": "0",
    "requests_per_minute": "",
    "tokens_per_minute": "",
}


def _limit(text: str, field: str) -> int | None:
    """A limit as it was typed; nothing is none."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > len(str(MOST)) or not 1 <= int(text) <= MOST:
        raise InvalidRequest("Write a number from 1 on, or nothing for no limit.", param=field)
    return int(text)


@router.get("")
def list_keys(services: ServicesDep, owner: PageOwnerDep, after: str | None = None) -> Response:
    return _page(services, owner, after=after)


@router.post("")
def create_key(
    services: ServicesDep,
    owner: PageOwnerDep,
    name: Annotated[str, Form()] = "",
    scope: Annotated[Scope, Form()] = "admin",
    days: Annotated[int, Form(ge=0, le=3650)] = 0,
    requests_per_minute: Annotated[str, Form()] = "",
    tokens_per_minute: Annotated[str, Form()] = "",
) -> Response:
    """The secret is in this answer and nowhere else, so there is nothing to redirect to."""
    try:
        _, secret = keys.create_key(
            database=services.database,
            owner=owner,
            name=name,
            scopes=[scope],
            expires_at=now() + timedelta(days=days) if days else None,
            requests_per_minute=_limit(requests_per_minute, "requests_per_minute"),
            tokens_per_minute=_limit(tokens_per_minute, "tokens_per_minute"),
        )
    except GenPlatError as error:
        shown = problems(error, ["name", "requests_per_minute", "tokens_per_minute"])
        values = {
            "name": name,
            "scope": scope,
            "days": str(days),
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
        }
        return _page(services, owner, status=UNPROCESSABLE, values=values, **shown)
    return _page(services, owner, status=201, secret=secret)


@router.post("/{key_id}/revoke")
def revoke_key(key_id: str, services: ServicesDep, owner: PageOwnerDep) -> Response:
    keys.revoke_key(database=services.database, owner=owner, key_id=key_id)
    return see_other("/keys")


def _page(
    services: Services,
    owner: str,
    *,
    status: int = 200,
    after: str | None = None,
    values: dict[str, str] | None = None,
    secret: str | None = None,
    **shown: Any,
) -> Response:
    found = keys.list_keys(database=services.database, owner=owner, after=after)
    return page(
        "keys/list.html",
        status=status,
        keys=found.data,
        has_more=found.has_more,
        secret=secret,
        values=values or EMPTY,
        **(no_problems() | shown),
    )
