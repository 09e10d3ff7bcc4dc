"""The gateway's end: quick and in good order, whatever is still open."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.gateway.conftest import ADMIN_KEY, LOGIN_TOKEN
from tests.gateway.fake_inference import FakeInference, fake_inference
from tests.gateway.gateway_process import (
    AUTHORIZED,
    Server,
    environment,
    wait_for,
    wait_until_live,
)
from tests.gateway.parts import fake_prepared
from tests.valkey import Valkey, free_port

# A minute of words; whatever else is open would stay so for longer than a test may take.
WORDS = ["word "] * 600
QUICK = 15.0
CHAT = {"model": BUNDLED_MODEL, "messages": [{"role": "user", "content": "Say much."}]}


class Gateway:
    """A process that is to be stopped, and readers of its streams, each in a thread."""

    def __init__(self, server: Server, inference: FakeInference, log: Path) -> None:
        self.server = server
        self.inference = inference
        self.log = log
        self.begun: set[str] = set()
        self.texts: dict[str, str] = {}
        self.readers: list[threading.Thread] = []
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        self.http = httpx.Client(base_url=server.url, headers=headers, timeout=60)

    def read(self, name: str, path: str, client: httpx.Client | None = None, **body: Any) -> None:
        """Read a stream to its end, and return when it has begun."""

        def read() -> None:
            method, text = ("POST" if body else "GET"), ""
            with (client or self.http).stream(method, path, **body) as answer:
                for piece in answer.iter_text():
                    text += piece
                    self.begun.add(name)
            self.texts[name] = text

        self.readers.append(threading.Thread(target=read, daemon=True))
        self.readers[-1].start()
        wait_for(lambda: name in self.begun)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        begin = time.monotonic()
        self.server.process.send_signal(number)
        assert self.server.process.wait(50) in (0, -signal.SIGTERM)
        seconds = time.monotonic() - begin
        for reader in self.readers:
            reader.join(30)
        return seconds


@contextmanager
def running_gateway(folder: Path, valkey: Valkey) -> Iterator[Gateway]:
    port, fake = free_port(), FakeInference(words=WORDS, seconds_a_word=0.1)
    root = folder / "data"
    fake_prepared(Storage(root), BUNDLED_MODEL)
    with fake_inference(fake), (folder / "log").open("w") as log:
        settings = {
            "GENPLAT_INFERENCE_URL": fake.url,
            "GENPLAT_INTERNAL_TOKEN": fake.token,
            "GENPLAT_LOGIN_TOKEN": LOGIN_TOKEN,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.app", "--port", str(port)],
            env=environment(root, valkey, **settings),
            stderr=log,
            text=True,
        )
        gateway = Gateway(Server(process, port, root), fake, folder / "log")
        try:
            wait_until_live(gateway.server)
            with gateway.http:
                yield gateway
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def gateway(tmp_path: Path, valkey: Valkey) -> Iterator[Gateway]:
    with running_gateway(tmp_path, valkey) as running:
        yield running


def waiting_run(gateway: Gateway) -> str:
    """A run that nobody works on."""
    files = {"file": ("a.csv", "text,target\na,b\nc,d\n")}
    dataset = gateway.http.post("/api/datasets", data={"name": "x"}, files=files).json()
    spec = {"base_model": BUNDLED_MODEL, "dataset_id": dataset["id"]}
    return str(gateway.http.post("/api/runs", json=spec).json()["id"])


def test_open_streams_end_by_themselves(gateway: Gateway) -> None:
    run_id = waiting_run(gateway)
    with httpx.Client(base_url=gateway.server.url) as browser:
        assert browser.get("/login", params={"token": LOGIN_TOKEN}).status_code == 303
        gateway.read("page", f"/runs/{run_id}/panel", client=browser)
        gateway.read("events", f"/api/runs/{run_id}/events")
        gateway.read("chat", "/v1/chat/completions", json=CHAT | {"stream": True})
        seconds = gateway.stop()
    assert seconds < QUICK
    assert "event: panel" in gateway.texts["page"]
    assert "event: state" in gateway.texts["events"]
    assert '"code":"stopping"' in gateway.texts["chat"]
    assert "[DONE]" not in gateway.texts["chat"]
    said = gateway.log.read_text()
    assert "Traceback" not in said and "Cancel" not in said


def test_what_waits_for_a_whole_answer_is_told(gateway: Gateway) -> None:
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(gateway.http.post("/v1/chat/completions", json=CHAT))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    wait_for(lambda: bool(gateway.inference.asked))
    assert gateway.stop(signal.SIGINT) < QUICK
    asking.join(30)
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (503, "stopping")
    said = gateway.log.read_text()
    assert "Traceback" not in said and "Cancel" not in said


@pytest.mark.parametrize("rest", ["", "Content-Length: 1000\r\n\r\n{"])
def test_a_request_that_never_comes_holds_nothing_up(gateway: Gateway, rest: str) -> None:
    with socket.create_connection(("127.0.0.1", gateway.server.port)) as idle:
        idle.sendall(f"POST /api/keys HTTP/1.1\r\n{AUTHORIZED}{rest}".encode())
        time.sleep(0.3)
        assert gateway.stop() < QUICK
    assert "Traceback" not in gateway.log.read_text()
