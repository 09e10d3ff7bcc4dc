"""Where a request for an answer came from, and how much of it may be kept."""

from typing import Annotated

from fastapi import Depends, Request

from gateway.deps import Caller, CallerDep
from gateway.request_log.entries import LOG_HEADER, Keeps, Kind, Origin
from shared.errors import InvalidRequest

_KEEPS: dict[str, Keeps] = {"content": "content", "metadata": "metadata", "none": "none"}


def origin_of(
    request: Request, caller: Caller, *, store: bool | None = None, kind: Kind | None = None
) -> Origin:
    """``store``: OpenAI's field of that name; false keeps the words out of the log."""
    said = request.headers.get(LOG_HEADER, "content").strip().lower()
    keeps = _KEEPS.get(said)
    if keeps is None:
        raise InvalidRequest(
            "The header X-GenPlat-Log must be content, metadata or none.", param=LOG_HEADER
        )
    if store is False and keeps == "content":
        keeps = "metadata"
    return Origin(
        key_id=caller.quota.key_id if caller.quota is not None else None,
        client=request.client.host if request.client is not None else None,
        request_id=request.scope.get("request_id"),
        keeps=keeps,
        kind=kind,
    )


async def _origin(request: Request, caller: CallerDep) -> Origin:
    return origin_of(request, caller)


OriginDep = Annotated[Origin, Depends(_origin)]
