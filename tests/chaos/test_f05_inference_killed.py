"""F5: the inference service is killed while it loads, does nothing, reads a prompt and streams.
Callers hear of it soon, nobody hangs, and it is back."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.chaos.conftest import Shared, scenario
from tests.chaos.services import INFERENCE
from tests.chaos.stack import Stack
from tests.chaos.times import ROUNDS
from tests.trainer_service.tiny import TINY_MODEL

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

ANSWER_SECONDS, HANG_SECONDS = 2.0, 5.0
BODY = {
    "model": TINY_MODEL,
    "messages": [{"role": "user", "content": "say it"}],
    "max_tokens": 200,
    "temperature": 0,
}
DONE = "data: [DONE]"
Note = Callable[[str, float], None]


@pytest.fixture(scope="module")
def shared_serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(tmp_path_factory.mktemp("chaos"), trainers=0, inference=True)
    yield made
    made.drop()


@pytest.fixture
def serving(request: pytest.FixtureRequest, shared_serving: Shared) -> Iterator[Stack]:
    """A stack that serves, and trains nothing."""
    yield from scenario(request, shared_serving)


class Caller(threading.Thread):
    """One chat request; what came of it, and when."""

    def __init__(self, stack: Stack, *, stream: bool) -> None:
        super().__init__(daemon=True)
        self.http = stack.client.http
        self.history = stack.client.history
        self.stream = stream
        self.status = 0
        self.lines: list[str] = []
        self.ends: list[str] = []
        self.ended_at = 0.0
        self.first = threading.Event()

    def run(self) -> None:
        body = BODY | {"stream": self.stream}
        try:
            with self.http.stream("POST", "/v1/chat/completions", json=body) as answer:
                self.status = answer.status_code
                for line in answer.iter_lines():
                    self._hear(line)
        except httpx.TransportError:
            self.ends.append("broken")
        self.ended_at = time.monotonic()
        if self.stream and self.status == 200:
            self.history.add("stream", of="chat", ends=self.ends)

    def _hear(self, line: str) -> None:
        self.lines.append(line)
        self.first.set()
        if line == DONE:
            self.ends.append("done")
        elif line.startswith("data: ") and "error" in json.loads(line[len("data: ") :]):
            self.ends.append("error")


def ask(stack: Stack, *, stream: bool = False) -> Caller:
    caller = Caller(stack, stream=stream)
    caller.start()
    return caller


def back_again(stack: Stack, moment: float, fault: str, note: Note) -> None:
    """While it is away others are told so at once; then it is started, and answers."""
    asked = time.monotonic()
    away = stack.client.http.post("/v1/chat/completions", json=BODY)
    assert (away.status_code, away.json()["error"]["code"]) == (503, "model_unavailable")
    assert "Retry-After" in away.headers
    assert time.monotonic() - asked < ANSWER_SECONDS
    stack.start(INFERENCE)
    while stack.client.http.post("/v1/chat/completions", json=BODY).status_code != 200:
        time.sleep(0.2)
    note(fault, time.monotonic() - moment)


@pytest.mark.parametrize("round", range(ROUNDS))
@pytest.mark.parametrize("stage", ["model_loads", "prompt_is_read"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_before_the_first_token(
    serving: Stack, recovery: Note, stage: str, stream: bool, round: int
) -> None:
    if stage == "model_loads":
        serving.restart(INFERENCE)
    else:
        ask(serving).join()
    serving.stages.order(stage, "kill")
    callers = [ask(serving, stream=stream) for _ in range(3)]
    serving.stages.wait(stage)
    assert serving.wait_end(INFERENCE) == -signal.SIGKILL
    moment = time.monotonic()
    for caller in callers:
        caller.join(HANG_SECONDS)
        assert not caller.is_alive()
        assert caller.status in (502, 503) or caller.ends in (["error"], ["done"])
        assert caller.ended_at - moment < ANSWER_SECONDS
    back_again(serving, moment, f"F5 {stage}", recovery)


@pytest.mark.parametrize("round", range(ROUNDS))
def test_with_nothing_to_do(serving: Stack, recovery: Note, round: int) -> None:
    ask(serving).join()
    serving.kill(INFERENCE)
    back_again(serving, time.monotonic(), "F5 idle", recovery)


@pytest.mark.parametrize("round", range(ROUNDS))
def test_in_the_midst_of_a_stream(serving: Stack, recovery: Note, round: int) -> None:
    ask(serving).join()
    serving.stages.order("token_is_decoded", "pause 0.05")
    callers = [ask(serving, stream=True) for _ in range(3)]
    for caller in callers:
        assert caller.first.wait(30)
    serving.kill(INFERENCE)
    moment = time.monotonic()
    serving.stages.withdraw("token_is_decoded")
    for caller in callers:
        caller.join(HANG_SECONDS)
        assert not caller.is_alive()
        assert caller.ends == ["error"]
        assert DONE not in caller.lines
    back_again(serving, moment, "F5 stream", recovery)
