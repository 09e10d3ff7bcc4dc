"""The first request for a model that nobody prepared or loaded yet."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway import serving
from gateway.settings import GatewaySettings
from gateway.tables import LibraryModel
from tests.gateway.api.live import Live, chat, live_gateway, refusal
from tests.gateway.parts import LONG, fake_prepared, until_true
from tests.valkey import Valkey


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def test_an_unprepared_base_is_prepared_first(live: Live) -> None:
    other = "HuggingFaceTB/SmolLM2-360M-Instruct"
    live.inference.unprepared = {other}
    live.http.post("/api/deployments", json={"name": "a", "model": other})
    until_true(lambda: library_state(live, other) == "preparing")
    assert live.state("a") == "loading"
    fake_prepared(live.services.storage, other)
    live.inference.unprepared = set()
    until_true(lambda: live.state("a") == "ready")


def library_state(live: Live, model: str) -> str:
    return str(live.http.get(f"/api/library/{model}").json()["state"])


def add_unprepared(live: Live) -> str:
    """A base model whose weights are on disk and were never converted."""
    folder = live.services.settings.import_root / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    answer = live.http.post("/api/library", json={"id": "me/mine", "folder": "mine"})
    assert (answer.status_code, answer.json()["state"]) == (201, "available")
    live.inference.unprepared = {"me/mine"}
    return "me/mine"


def preparing_jobs(valkey: Valkey) -> int:
    with valkey.client() as redis:
        return len(redis.keys("arq:job:prepare:*"))


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_request_waits_until_its_model_is_prepared(
    live: Live, valkey: Valkey, stream: bool
) -> None:
    model = add_unprepared(live)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(chat, live, model, stream=stream)
        until_true(lambda: library_state(live, model) == "preparing")
        assert not asking.done() and live.inference.loads[f"base/{model}"] == 1
        live.inference.unprepared = set()
        fake_prepared(live.services.storage, model)
        answer = asking.result(LONG)
    assert (answer.status_code, answer.headers["x-genplat-served-by"]) == (200, model)
    assert "Hello" in answer.text
    assert live.inference.loads[f"base/{model}"] == 2
    assert preparing_jobs(valkey) == 1


def test_a_request_waits_for_a_preparation_but_not_for_ever(
    live: Live, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PREPARE_SECONDS", 0.6)
    model = add_unprepared(live)
    for _ in range(2):
        answer = chat(live, model)
        assert refusal(answer) == (503, "model_unavailable")
        assert answer.headers["retry-after"] == "30"
        assert "still being prepared" in answer.json()["error"]["message"]
    assert (library_state(live, model), preparing_jobs(valkey)) == ("preparing", 1)


def test_a_request_for_a_model_whose_preparation_failed_says_why(
    live: Live, valkey: Valkey
) -> None:
    model = add_unprepared(live)
    with live.services.database.write() as session:
        session.get_one(LibraryModel, model).error = "Its files are damaged."
    answer = chat(live, model)
    assert refusal(answer) == (503, "model_unavailable")
    message = answer.json()["error"]["message"]
    assert "Its files are damaged." in message and f"/api/library/{model}/prepare" in message
    # Nobody but the user starts it over.
    assert (library_state(live, model), preparing_jobs(valkey)) == ("failed", 0)


def test_nobody_waits_for_a_preparation_where_another_can_answer(live: Live) -> None:
    live.deploy("spare")
    model = add_unprepared(live)
    live.http.post("/api/deployments", json={"name": "main", "model": model})
    body = {"name": "best", "targets": [{"deployment": "main"}], "fallbacks": ["spare"]}
    assert live.http.post("/api/routes", json=body).status_code == 201
    answer = chat(live, "best")
    assert (answer.status_code, answer.headers["x-genplat-served-by"]) == (200, "spare")
    assert answer.headers["x-genplat-fallback-reason"] == "model_not_loaded"
