"""What routes ask for by type: the services, who is asking, and creating things only once."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from gateway import auth, keys
from gateway.datasets.upload import Upload, receive_upload
from gateway.errors import LoginRequired
from gateway.idempotency import Claim, idempotent
from gateway.paging import DEFAULT_LIMIT
from gateway.rate_limits import Quota
from gateway.scopes import Scope, may
from gateway.services import Services
from shared.errors import Forbidden, Unauthorized

_NO_CREDENTIALS = "Send an API key as `Authorization: Bearer gp-…`, or log in at /login."


async def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


def receive(request: Request, services: Services) -> AbstractAsyncContextManager[Upload]:
    """The form of a request with its file, on disk for as long as the block."""
    return receive_upload(
        content_type=request.headers.get("content-type", ""),
        stream=request.stream(),
        folder=services.storage.temporary(),
        max_bytes=services.settings.max_upload_bytes,
    )


def session_cookie(request: Request) -> str | None:
    """The session cookie's value; two of them are nobody's."""
    values = [
        value.strip()
        for header in request.headers.getlist("cookie")
        for name, _, value in (part.partition("=") for part in header.split(";"))
        if name.strip() == auth.COOKIE
    ]
    if len(values) > 1:
        raise Unauthorized("Two session cookies came at once. Delete this site's cookies.")
    return values[0] if values else None


def bearer_secret(request: Request) -> str | None:
    """The secret of the one Authorization header, or None where there is none."""
    headers = request.headers.getlist("authorization")
    if not headers:
        return None
    scheme, _, secret = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer" or not secret.strip():
        raise Unauthorized(_NO_CREDENTIALS)
    return secret.strip()


@dataclass(frozen=True)
class Caller:
    """Who asks, and what they may do."""

    owner: str
    scopes: tuple[str, ...]
    quota: Quota | None = None


async def current_caller(request: Request, services: ServicesDep) -> Caller:
    """Who asks: by key or by session, never by both at once."""
    secret, cookie = bearer_secret(request), session_cookie(request)
    if secret is not None and cookie is not None:
        raise Unauthorized("Send either an API key or a session cookie, not both.")
    if secret is not None:
        key = await services.known_keys.get(
            keys.hash_secret(secret),
            partial(keys.authenticate, database=services.database, secret=secret),
        )
        if key is None:
            raise Unauthorized("This API key is not valid. Make one with `genplat keys create`.")
        keys.check_time(key)
        quota = Quota(key.id, key.requests_per_minute, key.tokens_per_minute)
        return Caller(key.owner, tuple(key.scopes), quota)
    if cookie is not None:
        owner = await run_in_threadpool(
            auth.session_owner, database=services.database, cookie=cookie
        )
        if owner is not None:
            return Caller(owner, ("admin",))
    raise Unauthorized(_NO_CREDENTIALS)


CallerDep = Annotated[Caller, Depends(current_caller)]


async def current_owner(caller: CallerDep) -> str:
    return caller.owner


def needs(reads: Scope | None, writes: Scope | None) -> Callable[..., Awaitable[None]]:
    """A guard: what a key must hold for GET, and for all else; None: any key will do."""

    async def check(request: Request, caller: CallerDep) -> None:
        needed = reads if request.method in ("GET", "HEAD") else writes
        if needed is not None:
            require(caller, needed)

    return check


def require(caller: Caller, needed: Scope) -> None:
    """`Forbidden` where the caller's key does not hold the scope."""
    if not may(caller.scopes, needed):
        raise Forbidden(
            f"This API key holds {', '.join(caller.scopes)}; this needs the scope {needed}.",
            code="scope_missing",
        )


OwnerDep = Annotated[str, Depends(current_owner)]


async def page_owner(request: Request, services: ServicesDep) -> str:
    """The same for pages: whoever is not known is sent to the login page."""
    try:
        caller = await current_caller(request, services)
    except Unauthorized as error:
        raise LoginRequired from error
    if not may(caller.scopes, "admin"):
        raise Forbidden("Pages need a key that holds the scope admin.", code="scope_missing")
    return caller.owner


PageOwnerDep = Annotated[str, Depends(page_owner)]


async def metrics_reader(request: Request, services: ServicesDep) -> None:
    """A key that may read, and a scraper with the services' own token: the metrics name what is
    served."""
    token = services.settings.internal_token.get_secret_value()
    secret = bearer_secret(request)
    if token and secret and hmac.compare_digest(secret.encode(), token.encode()):
        return
    require(await current_caller(request, services), "read")


@dataclass(frozen=True)
class ListQuery:
    """The part of a list to show; the limits are checked where the list is made."""

    after: str | None = None
    limit: int = DEFAULT_LIMIT


ListDep = Annotated[ListQuery, Depends()]


class ListPublic(BaseModel):
    """The envelope of every list."""

    object: str = "list"
    data: list[Any]
    has_more: bool


@dataclass(frozen=True)
class Once:
    """Answers a create; a repeat under the same Idempotency-Key gets the first answer again."""

    request: Request
    services: Services
    owner: str
    key: str | None

    async def __call__(
        self,
        create: Callable[[Claim | None], Awaitable[BaseModel]],
        *,
        status: int = 201,
        load: Callable[[str], Awaitable[BaseModel]] | None = None,
        fingerprint: str | None = None,
        withheld: str | None = None,
    ) -> JSONResponse:
        """``fingerprint`` stands for a body that was streamed and is gone; the field
        ``withheld`` is not kept for repeats."""

        async def make(claim: Claim | None) -> dict[str, Any]:
            return (await create(claim)).model_dump(mode="json")

        async def find(object_id: str) -> dict[str, Any]:
            assert load is not None  # noqa: S101 - passed on only where it is there
            return (await load(object_id)).model_dump(mode="json")

        answer = await idempotent(
            database=self.services.database,
            owner=self.owner,
            key=self.key,
            request_sha256=await self._digest(fingerprint),
            status=status,
            create=make,
            load=find if load else None,
            withheld=withheld,
            abandoned=timedelta(seconds=self.services.settings.key_abandoned_seconds),
        )
        headers = {"Idempotent-Replayed": "true"} if answer.replayed else None
        return JSONResponse(answer.body, status_code=answer.status, headers=headers)

    async def _digest(self, fingerprint: str | None) -> str:
        body = fingerprint.encode() if fingerprint is not None else await self.request.body()
        place = f"{self.request.method} {self.request.url.path}\n".encode()
        return hashlib.sha256(place + body).hexdigest()


def once(
    request: Request,
    services: ServicesDep,
    owner: OwnerDep,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Once:
    return Once(request, services, owner, idempotency_key)


OnceDep = Annotated[Once, Depends(once)]
