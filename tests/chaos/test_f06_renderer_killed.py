"""F6: PlantUML's process is killed in the midst of a picture: at most that picture is lost."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.chaos import processes
from tests.chaos.conftest import Shared, scenario
from tests.chaos.stack import Stack
from tests.chaos.times import BUSY_SECONDS, ROUNDS

pytestmark = [pytest.mark.timeout(600), pytest.mark.chaos]

NEXT_SECONDS = 3.0
SMALL = "@startuml\nAlice -> Bob: hello {}\n@enduml"
# Some seconds of work.
LARGE = "@startuml\n{}\n@enduml"


@pytest.fixture(scope="module")
def shared_drawing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(tmp_path_factory.mktemp("chaos"), trainers=0, inference=True)
    yield made
    made.drop()


@pytest.fixture
def drawing(request: pytest.FixtureRequest, shared_drawing: Shared) -> Iterator[Stack]:
    yield from scenario(request, shared_drawing)


def renderers(stack: Stack) -> list[int]:
    """PlantUML's processes; its environment is empty, so they are found by their parents."""
    (inference,) = [s.pid for s in stack.services.values() if s.name == "inference"]
    return [pid for pid in processes.descendants(inference) if "-pipe" in processes.command_of(pid)]


def draw(stack: Stack, source: str) -> httpx.Response:
    return stack.client.http.post("/api/diagrams", json={"source": source})


@pytest.mark.parametrize("round", range(2 * ROUNDS))
def test_a_picture_is_broken_off(
    drawing: Stack, recovery: Callable[[str, float], None], round: int
) -> None:
    warm = time.monotonic_ns()
    while (ready := draw(drawing, SMALL.format(warm))).status_code != 201:
        time.sleep(0.5)
    assert ready.json()["rendered"]
    classes = "\n".join(f"class A{warm}x{number}" for number in range(200))
    links = "\n".join(f"A{warm}x{number} --> A{warm}x{number + 1}" for number in range(199))
    answers: list[httpx.Response] = []
    large = threading.Thread(
        target=lambda: answers.append(draw(drawing, LARGE.format(f"{classes}\n{links}")))
    )
    large.start()
    time.sleep(0.3)
    killed = renderers(drawing)
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    moment = time.monotonic()
    large.join(BUSY_SECONDS)
    answer = answers[0]
    assert answer.status_code in (201, 422, 503), answer.text
    again = draw(drawing, SMALL.format(f"{warm} again"))
    recovery("F6 next picture", time.monotonic() - moment)
    assert again.status_code == 201 and again.json()["rendered"]
    small = time.monotonic()
    assert draw(drawing, SMALL.format(f"{warm} once more")).json()["rendered"]
    assert time.monotonic() - small < NEXT_SECONDS
