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
from shared.errors import GenPlatError

router = APIRouter(prefix="/keys", include_in_schema=False)


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
) -> Response:
    """The secret is in this answer and nowhere else, so there is nothing to redirect to."""
    try:
        _, secret = keys.create_key(
            database=services.database,
            owner=owner,
            name=name,
            scopes=[scope],
            expires_at=now() + timedelta(days=days) if days else None,
        )
    except GenPlatError as error:
        shown = problems(error, ["name"])
        values = {"name": name, "scope": scope, "days": str(days)}
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
        values=values or {"name": "", "scope": "admin", "days": "0"},
        **(no_problems() | shown),
    )
