"""Who answers to a name: a platform's models, service LLMs, and what cannot be."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response

from gateway import inference_client
from gateway.answering import AnswersEnded, Place, open_answerer, through_platform
from gateway.client import CommandFailed
from gateway.settings import GatewaySettings
from shared.errors import InvalidRequest, Unavailable
from shared.model_library import BUNDLED_MODEL
from shared.storage import MANIFEST, sha256_of
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.dying_upstream import KEY, DyingUpstream, dying_upstream
from tests.gateway.parts import asynchronous, success
from tests.gateway.threaded_server import serving

BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def at(live: Live, key: str = ADMIN_KEY) -> Place:
    return Place(GatewaySettings(), live.url, key)


def quiet(_: str) -> None:
    """What is said matters in other tests."""


async def asked(place: Place, model: str, body: dict[str, Any]) -> tuple[Any, ...]:
    async with open_answerer(place, model, say=quiet) as answerer:
        answer = await answerer.answer(body)
    text = answer["choices"][0]["message"]["content"]
    return answerer.model_id, answerer.model_sha, answerer.capacity, text


def test_a_base_model_of_a_platform(live: Live) -> None:
    folder = live.services.storage.base_model(BUNDLED_MODEL)
    said = asyncio.run(asked(at(live), BUNDLED_MODEL, BODY))
    assert said == (BUNDLED_MODEL, sha256_of(folder / MANIFEST), 8, "Hello there!")
    assert live.inference.asked[-1]["max_tokens"] == 5


def test_a_run_by_its_id_and_its_model_by_its_name(live: Live) -> None:
    run = live.succeeded_run()
    made = success(live.services.storage, run.id)
    for name in (run.id, str(run.fine_tuned_model)):
        model_id, sha, _, _ = asyncio.run(asked(at(live), name, BODY))
        assert (model_id, sha) == (run.fine_tuned_model, made.manifest_sha256)


def test_a_deployment_and_a_route_over_it(live: Live) -> None:
    folder = live.services.storage.base_model(BUNDLED_MODEL)
    live.deploy("small")
    route = {"name": "public", "targets": [{"deployment": "small", "weight": 1}]}
    assert live.http.post("/api/routes", json=route).status_code == 201
    for name in ("small", "public"):
        assert asyncio.run(asked(at(live), name, BODY))[1] == sha256_of(folder / MANIFEST)


def test_weights_that_are_not_always_the_same_have_no_sha(live: Live) -> None:
    live.deploy("small")
    live.deploy("tuned", live.succeeded_run().id)
    targets = [{"deployment": name, "weight": 1} for name in ("small", "tuned")]
    live.http.post("/api/routes", json={"name": "both", "targets": targets}).raise_for_status()
    assert asyncio.run(asked(at(live), "both", BODY))[1] == ""


@asynchronous
async def test_a_platform_that_is_away_for_a_while_is_waited_for(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_client, "RETRY_SECONDS", 0.2)
    async with open_answerer(at(live), BUNDLED_MODEL, say=quiet) as answerer:
        live.inference.stop()
        waiting = asyncio.create_task(answerer.answer(BODY))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await asyncio.to_thread(live.inference.start)
        async with asyncio.timeout(60):
            answer = await waiting
    assert answer["choices"][0]["message"]["content"] == "Hello there!"


@asynchronous
async def test_a_proxy_before_a_platform_that_is_away_is_asked_again() -> None:
    said: list[Response] = [HTMLResponse("<h1>Bad Gateway</h1>", 502), JSONResponse({"a": 1})]
    proxy = FastAPI()

    @proxy.post("/v1/chat/completions")
    def chat() -> Response:
        return said.pop(0)

    with serving(proxy) as url:
        async with httpx.AsyncClient(base_url=url) as http:
            with pytest.raises(Unavailable, match="answered 502"):
                await through_platform._ask(http, BODY)
            assert await through_platform._ask(http, BODY) == {"a": 1}


@pytest.mark.parametrize(
    ("model", "key", "said"),
    [
        ("nobody", ADMIN_KEY, "no model 'nobody'"),
        ("run_nobody", ADMIN_KEY, "run_nobody"),
        (BUNDLED_MODEL, "gp-wrong", "not valid"),
    ],
)
def test_who_does_not_exist_is_told_at_once(live: Live, model: str, key: str, said: str) -> None:
    with pytest.raises(CommandFailed, match=said):
        asyncio.run(asked(at(live, key), model, BODY))


def test_a_key_that_is_revoked_meanwhile_ends_it(live: Live) -> None:
    made = live.http.post("/api/keys", json={"name": "mine", "scopes": ["infer"]}).json()

    async def go() -> None:
        async with open_answerer(at(live, made["key"]), BUNDLED_MODEL, say=quiet) as answerer:
            await answerer.answer(BODY)
            await asyncio.to_thread(live.http.delete, f"/api/keys/{made['id']}")
            # (What is known of a key is remembered for a moment.)
            async with asyncio.timeout(20):
                while True:
                    await answerer.answer(BODY)

    with pytest.raises(AnswersEnded, match="not valid"):
        asyncio.run(go())


def test_a_request_that_is_wrong_is_told_of_it(live: Live) -> None:
    with pytest.raises(InvalidRequest, match="temperature"):
        asyncio.run(asked(at(live), BUNDLED_MODEL, BODY | {"temperature": 9}))


def test_others_do_not_see_what_is_mine(live: Live) -> None:
    asking = {"params": {"model": live.succeeded_run(owner="somebody-else").fine_tuned_model}}
    assert live.http.get("/api/answering", **asking).status_code == 404  # type: ignore[arg-type]


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DyingUpstream]:
    monkeypatch.setenv("SERVICE_KEY", KEY)
    with dying_upstream() as upstream:
        (tmp_path / "upstreams.yaml").write_text(
            f"upstreams: [{{name: large, base_url: '{upstream.url}/v1', model: large-1, "
            "api_key_env: SERVICE_KEY}]\n"
        )
        yield upstream


def test_a_service_llm_is_asked_without_any_platform(
    upstream: DyingUpstream, tmp_path: Path
) -> None:
    settings = GatewaySettings(
        data_dir=tmp_path / "data", upstreams_file=tmp_path / "upstreams.yaml"
    )
    said = asyncio.run(asked(Place(settings), "upstream/large", BODY))
    assert said == ("upstream/large", "", 8, upstream.text)
    assert upstream.asked[-1]["model"] == "large-1"
    with pytest.raises(CommandFailed, match="found: large"):
        asyncio.run(asked(Place(settings), "upstream/small", BODY))


def test_a_service_llm_without_its_key(
    upstream: DyingUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVICE_KEY")
    settings = GatewaySettings(upstreams_file=tmp_path / "upstreams.yaml")
    with pytest.raises(CommandFailed, match="SERVICE_KEY is not set"):
        asyncio.run(asked(Place(settings), "upstream/large", BODY))
    assert upstream.asked == []


def test_the_fake_says_what_the_real_service_says(live: Live) -> None:
    # (The real one: tests/inference_service/test_http.py.)
    headers = {"Authorization": f"Bearer {live.inference.token}"}
    assert httpx.get(f"{live.inference.url}/models", headers=headers).json()["capacity"] == 8
