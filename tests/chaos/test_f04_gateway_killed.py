"""F4: the gateway is killed while it takes a run, takes a file and tells of a run. Whoever asks
again under the same key gets one run; a file is there whole or not at all."""

import signal
import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from shared.storage import manifest_problem
from tests.chaos.client import CSV, STEPS, follow
from tests.chaos.evidence import sweep
from tests.chaos.services import ADMIN_KEY, GATEWAY
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS

pytestmark = pytest.mark.timeout(600)

STAGES = ("gateway_inserts", "gateway_commits", "gateway_enqueues", "gateway_answers")
Note = Callable[[str, float], None]


def restart(stack: Stack, since: float, fault: str, note: Note) -> None:
    stack.start(GATEWAY)
    note(fault, time.monotonic() - since)


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(stage, marks=() if stage == "gateway_enqueues" else pytest.mark.chaos)
        for stage in STAGES
    ],
)
def test_a_run_is_taken_once(stack: Stack, recovery: Note, stage: str, round: int) -> None:
    stack.stages.order(stage, "kill")
    key = f"{stage}-{time.monotonic_ns()}"
    with pytest.raises(httpx.TransportError):
        stack.client.submit(key, max_steps=5)
    moment = time.monotonic()
    assert stack.wait_end(GATEWAY) == -signal.SIGKILL
    restart(stack, moment, f"F4 {stage}", recovery)
    first = stack.client.submit_until_answered(key, max_steps=5)
    again = stack.client.submit(key, max_steps=5)
    assert again.json() == first
    assert again.headers["Idempotent-Replayed"] == "true"
    stack.client.wait_end(first["id"])


def send_half(port: int, name: str, content: bytes) -> socket.socket:
    """The first half of an upload; the connection is the caller's."""
    boundary = "half"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    ).encode()
    body = head + content + f"\r\n--{boundary}--\r\n".encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(
        f"POST /api/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body[: len(head) + len(content) // 2]
    )
    return connection


def names(stack: Stack) -> list[str]:
    body = stack.client.http.get("/api/datasets", params={"limit": 100}).json()
    return [dataset["name"] for dataset in body["data"]]


@pytest.mark.chaos
@pytest.mark.parametrize("round", range(ROUNDS))
def test_half_a_file_is_none(stack: Stack, recovery: Note, round: int) -> None:
    name = f"half-{time.monotonic_ns()}"
    content = CSV + b"".join(b"question %d,answer\n" % number for number in range(200_000))
    with send_half(stack.services[GATEWAY].port, name, content):
        time.sleep(0.5)
        stack.kill(GATEWAY)
        moment = time.monotonic()
    restart(stack, moment, "F4 mid upload", recovery)
    assert name not in names(stack)
    assert stack.client.upload(name, content).status_code == 201


@pytest.mark.chaos
@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_file_in_its_place_that_nobody_knows(stack: Stack, recovery: Note, round: int) -> None:
    """Killed between the folder's rename and the database's row: the next try makes one dataset.
    The other folder goes when it is old: that it was being placed was noted before."""
    before = set((stack.storage.root / "datasets").iterdir())
    name = f"placed-{time.monotonic_ns()}"
    stack.stages.order("dataset_placed", "kill")
    headers = {"Idempotency-Key": name}
    with pytest.raises(httpx.TransportError):
        stack.client.upload(name, headers=headers)
    moment = time.monotonic()
    stack.wait_end(GATEWAY)
    restart(stack, moment, "F4 dataset placed", recovery)
    assert name not in names(stack)
    (orphan,) = set((stack.storage.root / "datasets").iterdir()) - before
    assert manifest_problem(orphan) is None
    sweep(stack)
    assert not orphan.exists()
    while (answer := stack.client.upload(name, headers=headers)).status_code == 409:
        time.sleep(0.5)
    assert answer.status_code == 201
    assert names(stack).count(name) == 1


@pytest.mark.chaos
@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_reader_goes_on_where_it_was(stack: Stack, recovery: Note, round: int) -> None:
    run_id = stack.client.start_run()
    worker = stack.services["trainer-1"].pid
    told = follow(stack.client, run_id)
    first = threading.Thread(target=told.read)
    first.start()
    stack.client.wait_step(run_id, 15)
    stack.kill(GATEWAY)
    moment = time.monotonic()
    first.join(30)
    assert told.ends == ["broken"]
    restart(stack, moment, "F4 mid stream", recovery)
    rest = follow(stack.client, run_id, after=told.last_id)
    rest.read()
    assert rest.ends == ["done"]
    steps = [data["step"] for data in (*told.of("metrics"), *rest.of("metrics"))]
    assert steps == list(range(1, STEPS + 1))
    assert stack.client.run(run_id)["attempt"] == 1
    assert stack.services["trainer-1"].pid == worker
