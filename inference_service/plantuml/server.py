"""Pictures from a PlantUML server that the user runs, through the ``plantuml`` package."""

import asyncio
from typing import Any

import httplib2  # type: ignore[import-untyped]
from plantuml import PlantUML  # type: ignore[import-untyped]

from inference_service.plantuml.renderer import RenderFailed
from inference_service.plantuml.source import pipe_text
from shared.diagrams import DiagramFormat, RenderError
from shared.errors import UpstreamFailed


class ServerPictures:
    """Asks ``{url}/svg/…`` and ``{url}/png/…``; never a server that was not configured."""

    # It is not ours to start.
    starts = 0

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url, self._timeout = url.rstrip("/"), timeout

    async def start(self) -> None:
        """Nothing to warm up; an unreachable server shows at the first diagram."""

    async def stop(self) -> None:
        """Nothing is held."""

    async def draw(self, source: str, picture: DiagramFormat) -> bytes:
        text = pipe_text(source).decode()
        try:
            async with asyncio.timeout(2 * self._timeout):
                response, content = await asyncio.to_thread(self._fetch, text, picture)
        except (OSError, TimeoutError, httplib2.HttpLib2Error) as error:
            raise UpstreamFailed("The PlantUML server does not answer.") from error
        if "x-plantuml-diagram-error" in response:
            line = str(response.get("x-plantuml-diagram-error-line", ""))
            words = RenderError(
                line=int(line) + 1 if line.isdigit() else None,
                message=str(response["x-plantuml-diagram-error"]),
            )
            raise RenderFailed(words)
        if response.status != 200:
            raise UpstreamFailed(f"The PlantUML server answered {response.status}.")
        return content

    def _fetch(self, text: str, picture: DiagramFormat) -> tuple[Any, bytes]:
        client = PlantUML(f"{self._url}/{picture}/", http_opts={"timeout": self._timeout})
        # `client.processes` drops the headers, in which the server says what is wrong.
        response, content = client.http.request(client.get_url(text))
        return response, bytes(content)
