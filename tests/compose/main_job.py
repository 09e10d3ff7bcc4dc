"""The demo's steps, made small, against a platform that runs somewhere: public API alone."""

import itertools
from pathlib import Path

from gateway.client import Client, Json
from shared.model_library import BUNDLED_MODEL
from shared.runs import TERMINAL

EXAMPLES = Path(__file__).parents[2] / "examples" / "plantuml.jsonl"
SPEC: Json = {
    "base_model": BUNDLED_MODEL,
    "method": "lora",
    "validation_split": 0,
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "max_length": 128,
    "lora_r": 4,
}


def _is_over(name: str, data: Json) -> bool:
    return name == "state" and data.get("status") in TERMINAL


def do_small_main_job(client: Client) -> None:
    path = f"/api/library/{BUNDLED_MODEL}"
    if client.ask("GET", path)["state"] != "ready":
        client.ask("POST", f"{path}/prepare")
    model = client.poll(path, lambda item: item["state"] in ("ready", "failed"), seconds=600)
    assert model["state"] == "ready", model

    with EXAMPLES.open("rb") as rows:
        upload = b"".join(itertools.islice(rows, 8))
    dataset = client.ask(
        "POST", "/api/datasets", data={"name": "small"}, files={"file": ("small.jsonl", upload)}
    )
    assert dataset["rows"] == 8

    run = client.ask("POST", "/api/runs", json={**SPEC, "dataset_id": dataset["id"]})
    told = client.events(f"/api/runs/{run['id']}/events", ended=_is_over)
    assert "metrics" in [name for name, _ in told]
    run = client.ask("GET", f"/api/runs/{run['id']}")
    assert run["status"] == "succeeded", run["error"]

    client.ask("POST", "/api/deployments", json={"name": "small", "model": run["id"]})
    deployment = client.poll(
        "/api/deployments/small", lambda found: found["state"] != "loading", seconds=120
    )
    assert deployment["state"] == "ready", deployment

    answer = client.ask(
        "POST",
        "/v1/chat/completions",
        json={
            "model": "small",
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 8,
        },
    )
    assert answer["model"] == "small"
    assert answer["usage"]["completion_tokens"] > 0

    source = '@startuml\nactor "Ünïcode Клиент" as U\nU -> Server : hello\n@enduml'
    drawn = client.ask("POST", "/api/diagrams", json={"source": source})
    assert drawn["rendered"], drawn
    png = client.request("GET", drawn["png_url"]).content
    assert png.startswith(b"\x89PNG\r\n") and len(png) > 1000
    assert b"<svg" in client.request("GET", drawn["svg_url"]).content

    scenario = {"scenario": "A user logs in at a server.", "model": "small", "max_attempts": 1}
    assert "source" in client.ask("POST", "/api/diagrams", json=scenario)
