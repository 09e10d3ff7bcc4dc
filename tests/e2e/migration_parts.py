"""What the play of `migration.py` needs: its scene, its figures, the platform of one's own."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from openai import OpenAI

from tests.e2e.stack import ADMIN_KEY

Json = dict[str, Any]
LONG_SECONDS = 1800.0


@dataclass(frozen=True)
class Scene:
    """What is played: a base model, scenarios with the diagrams that people want to see, and how
    the run learns them."""

    model: str
    lessons: Sequence[tuple[str, str]]
    held_out: Sequence[tuple[str, str]]
    hyperparameters: Json
    max_tokens: int
    talk_tokens: int
    prepares_bundled: bool = False


@dataclass
class Figures:
    """What came of it."""

    rendered_by_service: int = 0
    asked: int = 0
    rows: int = 0
    train_seconds: float = 0.0
    evaluation: Json | None = None
    gate: str = ""
    steps: list[Json] | None = None
    migration_requests: int = 0
    migration_seconds: float = 0.0
    streams: int = 0
    continued: int = 0
    errors: int = 0


class Own:
    """The platform that one has oneself, by its public API alone."""

    def __init__(self, url: str) -> None:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=600)
        self.openai = OpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0, timeout=600)

    def ask(self, method: str, path: str, **arguments: Any) -> Json:
        answer = self.http.request(method, path, **arguments)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        said: Json = answer.json() if answer.content else {}
        return said

    def until(self, path: str, done: Callable[[Json], bool]) -> Json:
        deadline = time.monotonic() + LONG_SECONDS
        while not done(said := self.ask("GET", path)):
            assert time.monotonic() < deadline, f"{path}: {said}"
            time.sleep(0.5)
        return said

    def draw(self, scene: Scene, scenario: str, **changes: Any) -> httpx.Response:
        body = {
            "model": "draw",
            "messages": [{"role": "user", "content": scenario}],
            "diagram": {"max_attempts": 1},
            "max_tokens": scene.max_tokens,
            "temperature": 0,
        }
        answer = self.http.post("/v1/chat/completions", json=body | changes)
        assert answer.is_success, answer.text
        return answer


@contextlib.contextmanager
def opened(url: str) -> Iterator[Own]:
    own = Own(url)
    try:
        yield own
    finally:
        own.http.close()
        own.openai.close()
