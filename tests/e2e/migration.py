"""From a service LLM to one's own model, on real traffic: the play that docs/migrate.md tells.

Two platforms: one stands in for the service LLM, the other routes to it, learns from what it got
wrong, and takes its place. `python -m tests.e2e.migration` plays it with the bundled model and
examples, and prints the figures of the page; `test_migrate.py` plays it small.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

from shared.model_library import BUNDLED_MODEL
from tests.e2e.stack import ADMIN_KEY, running_stack

Json = dict[str, Any]
AT_ONCE = 8
KILLED_STREAMS = 6
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


def play(scene: Scene, folder: Path) -> Figures:
    figures = Figures()
    service_settings = {
        "GENPLAT_PREPARE_BUNDLED_MODEL": "true" if scene.prepares_bundled else "false"
    }
    with running_stack(folder / "service", **service_settings) as service:
        declared = folder / "upstreams.yaml"
        declared.write_text(
            "upstreams:\n"
            f"  - {{name: service, base_url: '{service.url}/v1', model: '{scene.model}',\n"
            "     api_key_env: SERVICE_KEY, continues: true, stall_seconds: 5}\n"
        )
        own_settings = service_settings | {
            "GENPLAT_UPSTREAMS_FILE": str(declared),
            "SERVICE_KEY": ADMIN_KEY,
            "GENPLAT_EXPERIMENT_SECONDS": "1",
        }
        with running_stack(folder / "own", **own_settings) as own_stack:
            with opened(service.url) as other:
                wait_for_model(other, scene.model)
            with opened(own_stack.url) as own:
                wait_for_model(own, scene.model)
                begin(own)
                send_traffic(own, scene, figures)
                train_on_it(own, scene, figures)
                measure(own, scene, figures)
                migrate(own, scene, figures)
                survive(own, scene, figures, service.process_id)
    return figures


def wait_for_model(own: Own, model: str) -> None:
    own.until("/v1/models", lambda said: model in {item["id"] for item in said["data"]})


def begin(own: Own) -> None:
    """Everything goes to the service LLM."""
    own.ask("POST", "/api/routes", json={"name": "draw", "targets": [{"upstream": "service"}]})


def send_traffic(own: Own, scene: Scene, figures: Figures) -> None:
    """People ask; what does not render they rate down, and say how it should have been."""

    def ask(item: tuple[str, tuple[str, str]]) -> bool:
        part, (scenario, wanted) = item
        answer = own.draw(scene, scenario, metadata={"part": part})
        rendered = bool(answer.json()["choices"][0]["message"]["diagram"]["rendered"])
        said: Json = {"rating": "up"} if rendered else {"rating": "down"}
        own.ask(
            "POST",
            f"/api/requests/{answer.headers['x-genplat-request-id']}/feedback",
            json=said | {"correction": wanted},
        )
        return rendered

    parts = [("lessons", one) for one in scene.lessons] + [("test", one) for one in scene.held_out]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rendered = list(pool.map(ask, parts))
    figures.asked, figures.rendered_by_service = len(rendered), sum(rendered)


def train_on_it(own: Own, scene: Scene, figures: Figures) -> None:
    """The log becomes a dataset, the dataset a model."""
    data = own.ask("POST", "/api/requests/dataset", json=_harvest("lessons"))
    figures.rows = data["rows"]
    spec = {
        "base_model": scene.model,
        "dataset_id": data["id"],
        "method": "lora",
        "validation_split": 0,
        "suffix": "own",
    }
    run = own.ask("POST", "/api/runs", json=spec | scene.hyperparameters)
    run = own.until(
        f"/api/runs/{run['id']}",
        lambda said: said["status"] in ("succeeded", "failed", "cancelled"),
    )
    assert run["status"] == "succeeded", run
    figures.train_seconds = run["train_seconds"]


def _harvest(part: str) -> Json:
    return {"name": part, "requests": {"route": "draw", "tag": f"part:{part}"}}


def measure(own: Own, scene: Scene, figures: Figures) -> None:
    """The service LLM against the own model, on what neither was trained on; deployed only if it
    is better beyond doubt."""
    data = own.ask("POST", "/api/requests/dataset", json=_harvest("test"))
    run = own.ask("GET", "/api/runs")["data"][0]
    made = own.ask(
        "POST",
        "/api/evaluations",
        json={
            "dataset_id": data["id"],
            "candidates": ["upstream/service", run["id"]],
            "task": "plantuml",
            "max_tokens": scene.max_tokens,
        },
    )
    figures.evaluation = own.until(
        f"/api/evaluations/{made['id']}",
        lambda said: said["status"] in ("succeeded", "failed", "cancelled"),
    )
    assert figures.evaluation["status"] == "succeeded", figures.evaluation
    figures.gate = "render_rate >= base + 0.1"
    gate = {"evaluation": made["id"], "rules": [figures.gate]}
    own.ask("POST", "/api/deployments", json={"name": "mine", "model": run["id"], "require": gate})
    own.until("/api/deployments/mine", lambda said: said["state"] in ("ready", "failed"))


def migrate(own: Own, scene: Scene, figures: Figures) -> None:
    """Shadow, half, all: each step is taken once the one before held."""
    steps = {
        "from": {"upstream": "service"},
        "to": {"deployment": "mine"},
        "outcome": "rendered",
        "margin": 0.05,
        "steps": [0, 0.5, 1],
        "guardrails": {},
    }
    began = time.monotonic()
    own.ask("POST", "/api/routes/draw/migration", json=steps)
    scenarios = cycle(scenario for scenario, _ in scene.held_out)
    state: Json = {"status": "running"}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while state["status"] == "running":
            some = [next(scenarios) for _ in range(AT_ONCE)]
            list(pool.map(lambda scenario: own.draw(scene, scenario), some))
            figures.migration_requests += len(some)
            assert time.monotonic() < began + LONG_SECONDS, state
            state = own.ask("GET", "/api/routes/draw/migration")
    assert state["status"] == "succeeded", state
    figures.migration_seconds = time.monotonic() - began
    figures.steps = state["steps"]


def survive(own: Own, scene: Scene, figures: Figures, service_process: int) -> None:
    """The service LLM is killed while it speaks, and nobody sees an error."""
    own.ask(
        "POST",
        "/api/routes",
        json={"name": "talk", "targets": [{"upstream": "service"}], "fallbacks": ["mine"]},
    )
    speaking = threading.Event()

    def stream(model: str) -> tuple[str, str | None]:
        text, ended = "", None
        chunks = own.openai.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Tell me a long story of the sea."}],
            max_tokens=scene.talk_tokens,
            temperature=0,
            stream=True,
        )
        for chunk in chunks:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                ended = choice.finish_reason or ended
            if text and model == "talk":
                speaking.set()
        return text, ended

    with ThreadPoolExecutor(2 * KILLED_STREAMS) as pool:
        told = [pool.submit(stream, model) for model in ("talk", "draw") * KILLED_STREAMS]
        assert speaking.wait(LONG_SECONDS)
        kill_with_children(service_process)
        ends = []
        for one in told:
            try:
                ends.append(one.result())
            except Exception:
                figures.errors += 1
    figures.streams = len(told)
    figures.errors += sum(ended is None or not text for text, ended in ends)
    summary = own.ask("GET", "/api/requests/summary", params={"route": "talk"})
    figures.continued = summary["continued"] + summary["fallbacks"]
    # And afterwards.
    for model in ("talk", "draw"):
        text, ended = stream(model)
        figures.errors += ended is None or not text


def kill_with_children(process_id: int) -> None:
    """As if its machine had lost power."""
    family = list(_family(process_id))
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def _family(process_id: int) -> Iterator[int]:
    yield process_id
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process_id}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def bundled(lessons: int, held_out: int) -> Scene:
    """The bundled model and examples."""
    examples = Path(__file__).parents[2] / "examples"

    def read(name: str, most: int) -> list[tuple[str, str]]:
        rows = [json.loads(line) for line in (examples / name).read_text().splitlines()]
        return [(row["prompt"], row["completion"]) for row in rows[:most]]

    return Scene(
        model=BUNDLED_MODEL,
        lessons=read("plantuml.jsonl", lessons),
        held_out=read("plantuml_test.jsonl", held_out),
        hyperparameters={
            "num_train_epochs": 3,
            "learning_rate": 0.003,
            "per_device_train_batch_size": 2,
            "max_length": 512,
            "lora_r": 16,
            "lora_alpha": 32,
            "seed": 42,
        },
        max_tokens=220,
        talk_tokens=200,
        prepares_bundled=True,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = play(bundled(112, 32), Path(folder))
    sys.stdout.write(json.dumps(vars(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
