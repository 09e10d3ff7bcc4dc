"""What each kind of step does: commands of their own for the heavy ones, requests to the platform
for the others. All return what they made."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from gateway.answering import Place
from gateway.client import Client, CommandFailed, Json
from gateway.evaluations.required import GateQuestion, answered
from gateway.evaluations.views import EvaluationView
from gateway.launcher.processes import dying_with
from gateway.orchestrator.shares import promoted
from gateway.pipeline.config import Content, Step
from gateway.platform import platform
from gateway.validation import refusal
from shared.errors import InvalidRequest
from shared.storage import atomic_file

GATE_CLOSED = 4
PARTIAL = 3
_READY_SECONDS = 600
# Which event of a command tells what it made.
_COMMANDS = {
    "synthesize": "synthesis",
    "train": "run",
    "batch": "batch",
    "evaluate": "evaluation",
}


class StepFailed(Exception):
    """``code``: the exit code. ``ended``: what the step began has come to its end, and that was
    none; else the next time finds it again."""

    def __init__(self, message: str, code: int, *, ended: bool = True) -> None:
        super().__init__(message)
        self.code, self.ended = code, ended


@dataclass(frozen=True)
class Doing:
    """A step that is being done. ``content``: its keys, references replaced; ``work``: a folder of
    its own; ``once``: under this nothing is created twice on a platform."""

    step: Step
    content: Content
    folder: Path
    work: Path
    once: str
    place: Place
    say: Callable[[str], None]
    progress: Callable[[str, Json], None]


def do(doing: Doing) -> Content:
    """The step's outputs. `StepFailed`, `CommandFailed` and the named errors tell what is wrong."""
    if doing.step.kind in _COMMANDS:
        return _command(doing)
    return {"gate": _gate, "deploy": _deploy, "promote": _promote}[doing.step.kind](doing)


def written_by(outputs: Content) -> list[Path]:
    """The files and folders that a step made: while they are as they were, it is done."""
    paths = (Path(value) for value in outputs.values() if isinstance(value, str))
    return [path for path in paths if path.is_absolute() and path.exists()]


def _command(doing: Doing) -> Content:
    kind = doing.step.kind
    content = dict(doing.content)
    writes = kind in ("synthesize", "batch", "evaluate") or (kind == "train" and doing.place.local)
    if writes:
        content.setdefault("output_dir", str(doing.work))
    told, code = _run(doing, [kind, "--json", *_arguments(doing, content)])
    last = told.get(_COMMANDS[kind], {})
    if code and not (code == PARTIAL and doing.step.allow_partial and last):
        raise StepFailed(f"genplat {kind} ended with {code}.", code, ended=bool(last))
    return _outputs(doing, last)


def _arguments(doing: Doing, content: Content) -> Iterator[str]:
    """Flags for the keys; what would be read as a list or an object there stands in a file."""
    given = {name: value for name, value in content.items() if value is not None}
    texts = {name for name, value in given.items() if _looks_like_yaml(value)}
    if texts:
        path = doing.work / "keys.yaml"
        with atomic_file(path) as out:
            out.write(yaml.safe_dump({name: given[name] for name in sorted(texts)}).encode())
        yield str(path)
    for name in given.keys() - texts:
        value = given[name]
        yield f"--{name}={value if isinstance(value, str) else json.dumps(value)}"


def _looks_like_yaml(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("[", "{"))


def _run(doing: Doing, arguments: list[str]) -> tuple[dict[str, Json], int]:
    """What the command told last of each kind of event, and its exit code."""
    place = doing.place
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    command += ["--data-dir", str(place.settings.root)]
    command += ["--local"] if place.local else []
    named = {"GENPLAT_URL": place.url, "GENPLAT_API_KEY": place.key, "GENPLAT_ONCE": doing.once}
    told: dict[str, Json] = {}
    with subprocess.Popen(
        command,
        cwd=doing.folder,
        env={**os.environ, "PYTHONSAFEPATH": "1"} | {k: v for k, v in named.items() if v},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=dying_with(os.getpid()),
    ) as process:
        try:
            _listen(process, doing, told)
        finally:
            # (Ctrl-C reaches it, too: it may put things in order.)
            try:
                process.wait(timeout=10 if sys.exc_info()[0] else None)
            except subprocess.TimeoutExpired:
                process.kill()
        return told, process.wait()


def _listen(process: "subprocess.Popen[str]", doing: Doing, told: dict[str, Json]) -> None:
    """Until the command says no more. What is no event is passed on."""
    for line in process.stdout or ():
        try:
            event = json.loads(line)
            told[event["event"]] = event["data"]
        except (ValueError, KeyError, TypeError):
            doing.say(line.rstrip())
            continue
        doing.progress(event["event"], event["data"])


def _outputs(doing: Doing, last: Json) -> Content:
    match doing.step.kind:
        case "synthesize":
            return {name: last[name] for name in ("jsonl", "parquet", "report", "kept")}
        case "batch":
            return {name: last[name] for name in ("jsonl", "parquet")}
        case "train" if doing.place.local:
            return {"output_dir": last["output_dir"], "model": last["output_dir"]}
        case "train":
            return {"run": last["id"], "model": last["fine_tuned_model"]}
        case _:
            return _kept_evaluation(doing, last)


def _kept_evaluation(doing: Doing, evaluation: Json) -> Content:
    path = doing.work / "evaluation.json"
    with atomic_file(path) as out:
        out.write(json.dumps(evaluation).encode())
    return {"evaluation": str(path), "id": evaluation.get("id")}


def _gate(doing: Doing) -> Content:
    """``evaluation``: what an evaluate step made, a report as JSON, or an evaluation's id."""
    named, content = str(doing.content["evaluation"]), doing.content
    path = doing.folder / named
    if path.is_file():
        evaluation = json.loads(path.read_text(encoding="utf-8"))
    else:
        with _platform(doing) as client:
            evaluation = client.ask("GET", f"/api/evaluations/{named}")
    try:
        rules = content["rules"] if isinstance(content["rules"], list) else [content["rules"]]
        question = GateQuestion.model_validate(
            {"rules": rules, "candidate": content.get("candidate")}
        )
        found = answered(EvaluationView.model_validate(evaluation), question)
    except ValidationError as error:
        raise InvalidRequest(f"{doing.step.id}: {refusal(error).message}") from error
    for one in found.verdicts:
        doing.say(f"  {one.sentence}")
    if not found.holds:
        raise StepFailed(f"The gate {doing.step.id} is closed for {found.candidate}.", GATE_CLOSED)
    return {"holds": True, "evaluation": named}


@contextmanager
def _platform(doing: Doing) -> Iterator[Client]:
    place = doing.place
    with platform(
        place.settings,
        place.url,
        place.key,
        command=place.command,
        without="leave out the steps that need one.",
    ) as client:
        yield client


def _deploy(doing: Doing) -> Content:
    content = dict(doing.content)
    replace, seconds = bool(content.pop("replace", False)), float(content.pop("seconds", 0) or 0)
    name, model = str(content["name"]), str(content["model"])
    with _platform(doing) as client:
        known = client.request("GET", f"/api/deployments/{name}")
        there = known.is_success and _is_as_wanted(known.json(), content)
        if known.is_success and not there:
            if not replace:
                raise CommandFailed(
                    f"{doing.step.id}: {name} is a deployment of another model, or of another "
                    "precision. Name another one, or say `replace: true`."
                )
            client.ask("DELETE", f"/api/deployments/{name}")
        if not there:
            client.ask("POST", "/api/deployments", json=content)
        found = _ready(client, name, seconds or _READY_SECONDS)
    doing.say(f"  {name} is {found['state']}.")
    return {"name": name, "model": model}


def _is_as_wanted(deployment: Json, content: Content) -> bool:
    same = content["model"] in (deployment["model"], deployment["run_id"])
    checkpoint, precision = content.get("checkpoint"), content.get("precision") or "auto"
    return (
        same
        and (checkpoint is None or checkpoint == deployment["checkpoint"])
        and precision in ("auto", deployment["precision"])
    )


def _ready(client: Client, name: str, seconds: float) -> Json:
    deadline = time.monotonic() + seconds
    while (found := client.ask("GET", f"/api/deployments/{name}"))["state"] not in (
        "ready",
        "failed",
    ):
        if time.monotonic() > deadline:
            raise CommandFailed(f"{name} is still {found['state']} after {seconds:.0f} s.")
        time.sleep(0.5)
    if found["state"] == "failed":
        raise CommandFailed(f"{name} cannot be served: {found['error']}")
    return found


def _promote(doing: Doing) -> Content:
    """``weight``: percent of the route's requests that the deployment gets; the others share what
    is left as they did before."""
    content = doing.content
    name, deployment = str(content["route"]), str(content["deployment"])
    weight = content.get("weight", 100)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 100:
        raise InvalidRequest(
            f"{doing.step.id}: weight must lie above 0, up to 100.", param="weight"
        )
    with _platform(doing) as client:
        known = client.request("GET", f"/api/routes/{name}")
        if known.status_code == 404:
            targets = [{"deployment": deployment, "weight": 100}]
            made = client.ask("POST", "/api/routes", json={"name": name, "targets": targets})
        else:
            route = client.ask("GET", f"/api/routes/{name}")
            body = promoted(route, deployment, float(weight))
            made = client.ask("PUT", f"/api/routes/{name}", json=body)
    own = next(one["weight"] for one in made["targets"] if one.get("deployment") == deployment)
    doing.say(f"  {deployment} gets {own:g}% of {name}.")
    return {"route": name}
