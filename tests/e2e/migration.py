"""From a service LLM to one's own model, on real traffic: the play that docs/migrate.md tells.

Two platforms: one stands in for the service LLM, the other routes to it, learns from what it got
wrong, and takes its place. `python -m tests.e2e.migration` plays it with the bundled model and
examples, and prints the figures of the page; `test_migrate.py` plays it small.
"""

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

from shared.model_library import BUNDLED_MODEL
from tests.e2e.migration_parts import LONG_SECONDS, Figures, Json, Own, Scene, opened
from tests.e2e.outage import survive
from tests.e2e.stack import ADMIN_KEY, running_stack

AT_ONCE = 8


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
