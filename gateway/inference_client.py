"""The inference service over HTTP: the only module that speaks to it. Knows no database."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from gateway.settings import GatewaySettings
from shared.chat import (
    SERVED_AS_HEADER,
    DiagramRequest,
    Likelihood,
    LikelihoodQuestion,
    LoadedModel,
    ModelRef,
)
from shared.diagrams import RenderedDiagram
from shared.errors import (
    GenPlatError,
    InvalidData,
    InvalidRequest,
    NotFound,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
)

CONNECT_SECONDS = 2.0
SHORT_SECONDS = 10.0
RETRY_SECONDS = 5.0
NOT_LOADED = "model_not_loaded"
NOT_PREPARED = "model_not_prepared"

_BY_STATUS: dict[int, type[GenPlatError]] = {
    400: InvalidRequest,
    404: NotFound,
    413: TooLarge,
    422: InvalidData,
    429: TooManyRequests,
    503: Unavailable,
    504: TimedOut,
}


@dataclass(frozen=True)
class InferenceStream:
    """An answer that is still coming; whoever holds it closes it."""

    response: httpx.Response

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.response.aiter_raw():
                yield chunk
        except httpx.HTTPError as error:
            raise _broken(error) from error

    async def aclose(self) -> None:
        await self.response.aclose()


class InferenceClient:
    """Calls of the inference service; what goes wrong comes out as GenPlat's named errors."""

    def __init__(self, settings: GatewaySettings) -> None:
        token = settings.internal_token.get_secret_value()
        self._client = httpx.AsyncClient(
            base_url=settings.inference_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(settings.inference_timeout_seconds, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            # A proxy from the environment has no business between two services of one machine.
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def readiness(self) -> dict[str, str] | None:
        """What the service says of itself (``renderer``: why it cannot draw); None where it is not
        ready."""
        try:
            response = await self._client.get("/readyz", timeout=SHORT_SECONDS)
            said: dict[str, str] = response.json()
        except (httpx.HTTPError, ValueError):
            return None
        return said if response.is_success else None

    async def load(self, name: str, ref: ModelRef) -> LoadedModel:
        """Load a model under a name and wait for it; at once where it is loaded already."""
        response = await self._send("PUT", _model_path(name), json=ref.model_dump(mode="json"))
        return LoadedModel.model_validate(response.json())

    async def unload(self, name: str) -> None:
        try:
            await self._send("DELETE", _model_path(name))
        except NotFound:
            return

    async def models(self) -> list[LoadedModel]:
        response = await self._send("GET", "/models", timeout=SHORT_SECONDS)
        return [LoadedModel.model_validate(item) for item in response.json()["data"]]

    async def capacity(self) -> int:
        """How many requests the service answers at once."""
        response = await self._send("GET", "/models", timeout=SHORT_SECONDS)
        return int(response.json()["capacity"])

    async def complete(self, path: str, body: dict[str, Any], *, served_as: str) -> dict[str, Any]:
        """The whole answer to a chat or completion request."""
        response = await self._send("POST", path, json=body, headers=_served_as(served_as))
        answer: dict[str, Any] = response.json()
        return answer

    async def stream(self, path: str, body: dict[str, Any], *, served_as: str) -> InferenceStream:
        """The same, as it is being written; returns when the service has accepted it."""
        request = self._client.build_request("POST", path, json=body, headers=_served_as(served_as))
        try:
            response = await self._client.send(request, stream=True)
            if response.is_success:
                return InferenceStream(response)
            try:
                await response.aread()
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise _broken(error) from error
        raise refused(response)

    async def likelihood(self, question: LikelihoodQuestion) -> Likelihood:
        body = question.model_dump(mode="json")
        response = await self._send("POST", "/likelihood", json=body)
        return Likelihood.model_validate(response.json())

    async def draw(self, request: DiagramRequest) -> RenderedDiagram:
        body = request.model_dump(mode="json", exclude_none=True)
        response = await self._send("POST", "/diagrams", json=body)
        return RenderedDiagram.model_validate(response.json())

    async def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = await self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise _broken(error) from error
        if not response.is_success:
            raise refused(response)
        return response


def _model_path(name: str) -> str:
    return f"/models/{quote(name, safe='/')}"


def _served_as(name: str) -> dict[str, str]:
    return {SERVED_AS_HEADER: name}


def _broken(error: httpx.HTTPError) -> GenPlatError:
    """No answer, or half of one."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return TimedOut("The model did not answer in time.", code="model_timeout")
    return Unavailable(
        "The inference service cannot be reached at the moment.",
        code="model_unavailable",
        retry_after=RETRY_SECONDS,
    )


def refused(response: httpx.Response) -> GenPlatError:
    """The error that the service answered with, under the gateway's own names."""
    try:
        said = response.json()["error"]
        message, code, param = str(said["message"]), said.get("code"), said.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        return UpstreamFailed(f"The inference service answered {response.status_code}.")
    kind = _BY_STATUS.get(response.status_code, UpstreamFailed)
    retry_after = response.headers.get("retry-after", "")
    return kind(
        message,
        code=code,
        param=param,
        retry_after=float(retry_after) if retry_after.isdecimal() else None,
    )
