"""The service while its renderer starts, cannot start, and starts at last."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from inference_service.app import build_app, make_service
from inference_service.plantuml.renderer import Pictures, Renderer
from inference_service.service import InferenceService
from inference_service.settings import InferenceSettings
from shared.errors import Unavailable
from shared.storage import Storage
from tests.inference_service.plantuml.test_cache import PNG, SVG
from tests.inference_service.serving import HEADERS, TOKEN
from tests.trainer_service.tiny import TINY_MODEL

pytestmark = pytest.mark.anyio

GOOD = "@startuml\nA -> B\n@enduml"


@contextlib.asynccontextmanager
async def in_process(service: InferenceService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in this event loop, which lives as long as the block."""
    app = build_app(service, internal_token=TOKEN)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", headers=HEADERS) as http,
    ):
        yield http


async def until_ready(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(5):
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)


class Unsteady:
    """Pictures whose every start takes its turn, and ends as it is told to."""

    starts = 0

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = list(outcomes)
        self.turn = asyncio.Event()

    async def start(self) -> None:
        await self.turn.wait()
        self.turn.clear()
        if outcome := self._outcomes.pop(0):
            raise outcome

    async def stop(self) -> None:
        """Holds nothing."""

    async def draw(self, source: str, picture: str) -> bytes:
        return SVG if picture == "svg" else PNG


def service_over(storage: Storage, **settings: object) -> InferenceService:
    options = {"data_dir": storage.root, "torch_threads": 1, **settings}
    return make_service(InferenceSettings.model_validate(options))


def service_with(pictures: Pictures, storage: Storage) -> InferenceService:
    service = service_over(storage)
    service.renderer = Renderer(pictures)
    return service


async def test_without_java_the_service_is_ready_for_everything_else(storage: Storage) -> None:
    async with in_process(service_over(storage, java="/nonexistent/java")) as http:
        await until_ready(http)
        ref = {"base_model": TINY_MODEL}
        assert (await http.put("/models/m", json=ref)).status_code == 200
        body = {"model": "m", "prompt": "Once", "max_tokens": 2}
        assert (await http.post("/v1/completions", json=body)).status_code == 200
        drawn = await http.post("/diagrams", json={"source": GOOD})
        assert (drawn.status_code, drawn.headers["retry-after"]) == (503, "5")
        assert "GENPLAT_JAVA" in drawn.json()["error"]["message"]


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (Unavailable("No Java."), "No Java."),
        (KeyError("bug"), "The renderer fails at its start (KeyError)."),
    ],
)
async def test_only_the_first_start_of_the_renderer_is_waited_for(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, failure: Exception, sentence: str
) -> None:
    monkeypatch.setattr("inference_service.app.RENDERER_RETRY_SECONDS", 0)
    pictures = Unsteady(failure, None)
    async with in_process(service_with(pictures, storage)) as http:
        assert (await http.get("/livez")).status_code == 200
        refused = await http.get("/readyz")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        pictures.turn.set()
        await until_ready(http)
        drawn = await http.post("/diagrams", json={"source": GOOD})
        assert drawn.json()["error"]["message"] == sentence
        assert (await http.get("/readyz")).json() == {"status": "ok", "renderer": sentence}
        pictures.turn.set()
        async with asyncio.timeout(5):
            while drawn.status_code == 503:
                assert (await http.get("/readyz")).status_code == 200
                drawn = await http.post("/diagrams", json={"source": GOOD})
        assert drawn.json()["rendered"]
        assert (await http.get("/readyz")).json() == {"status": "ok"}


async def test_what_keeps_java_from_starting_is_told_and_waited_out(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("inference_service.app.RENDERER_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "later"))
    async with in_process(service_over(storage)) as http:
        await until_ready(http)
        drawn = await http.post("/diagrams", json={"source": GOOD})
        assert (drawn.status_code, drawn.headers["retry-after"]) == (503, "5")
        assert "No such file or directory" in drawn.json()["error"]["message"]
        (tmp_path / "later").mkdir()
        async with asyncio.timeout(60):
            while drawn.status_code == 503:
                await asyncio.sleep(0.1)
                drawn = await http.post("/diagrams", json={"source": GOOD})
        assert drawn.json()["rendered"]


class Unstoppable(Unsteady):
    """Fails where nobody expects it."""

    async def stop(self) -> None:
        raise RuntimeError("stop")


async def test_the_engine_is_closed_whatever_the_renderer_does(storage: Storage) -> None:
    pictures = Unstoppable(RuntimeError("start"))
    service = service_with(pictures, storage)
    with pytest.raises(RuntimeError, match="stop"):
        async with in_process(service):
            assert service.engine.alive
            pictures.turn.set()
            await asyncio.sleep(0.05)
    assert not service.engine.alive
