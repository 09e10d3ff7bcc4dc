"""`genplat train`: what a file and flags ask for, trained by a GenPlat that runs, or right here.

Talks to the platform through its public REST API alone.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import httpx

from gateway.client import Client, CommandFailed, Json
from gateway.launcher.lock import running_stack
from gateway.local_keys import passing_key
from gateway.progress import Progress, duration, training_line
from gateway.settings import CommandSettings, GatewaySettings
from gateway.train_config import DATA, Content, checked_spec, write_as_json
from shared.runs import TERMINAL
from shared.storage import sha256_of

PAGE = 100
INTERRUPTED = 130
EXIT_CODES = {"succeeded": 0, "failed": 1, "cancelled": 3}


class Report:
    """What a training tells: lines for people, or (``as_json``) one JSON object a line, each with
    ``event`` and ``data``; the last one is the run."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._live = stream.isatty() and not as_json
        # What is said beside the events must not stand between the objects.
        self._progress = Progress(sys.stderr if as_json else stream)
        self._state: Json = {}

    def say(self, text: str) -> None:
        self._progress.say(text)

    def event(self, name: str, data: Json) -> None:
        if self._as_json:
            self._stream.write(json.dumps({"event": name, "data": data}) + "\n")
            self._stream.flush()
        elif name == "log":
            self.say(f"  {data['message']}")
        elif self._live and name in ("state", "metrics"):
            self._state |= {key: value for key, value in data.items() if value is not None}
            self._progress.show(training_line(self._state))

    def end(self, run: Json) -> None:
        if self._as_json:
            self.event("run", run)
        elif run["status"] == "succeeded":
            seconds = duration(run["train_seconds"])
            self.say(f"Fine-tuned {run['fine_tuned_model']} in {seconds}.")
        else:
            why = (run.get("error") or {}).get("message")
            self.say(f"The run {run['id']} is {run['status']}{f': {why}' if why else '.'}")


def train(
    content: Content,
    *,
    settings: GatewaySettings,
    url: str = "",
    key: str = "",
    detach: bool = False,
    report: Report,
) -> int:
    """Start the run on a platform and follow it to its end; returns the exit code."""
    # Before anything is uploaded for a spec that is refused.
    checked_spec(content, {f"{name}_id": "to be uploaded" for name in DATA if content.get(name)})
    with _platform(settings, url, key) as client:
        data_ids = {
            f"{name}_id": _dataset_id(client, name, content, report)
            for name in DATA
            if content.get(name)
        }
        run = client.ask("POST", "/api/runs", json=checked_spec(content, data_ids))
        report.say(f"Run {run['id']}: {client.url}/runs/{run['id']}")
        if detach:
            report.event("run", run)
            return 0
        return follow(client, run["id"], report)


def follow(client: Client, run_id: str, report: Report) -> int:
    """Tell of the run until it ends. Whoever leaves before that leaves it running."""
    path = f"/api/runs/{run_id}"
    try:
        for name, data in client.events(f"{path}/events", ended=_is_over):
            report.event(name, data)
        run = client.ask("GET", path)
    except KeyboardInterrupt:
        report.say(
            f"The run goes on. Watch it at {client.url}/runs/{run_id}, or cancel it there or with\n"
            f'  curl -X POST -H "Authorization: Bearer $GENPLAT_API_KEY" {client.url}{path}/cancel'
        )
        return INTERRUPTED
    report.end(run)
    return EXIT_CODES.get(run["status"], 1)


def _is_over(name: str, data: Json) -> bool:
    return name == "state" and data.get("status") in TERMINAL


@contextlib.contextmanager
def _platform(settings: GatewaySettings, url: str, key: str) -> Iterator[Client]:
    """A client of the platform that was named, or of the one that runs on the data folder."""
    named = CommandSettings()
    url, key = url or named.url, key or named.api_key.get_secret_value()
    with contextlib.ExitStack() as stack:
        if not url:
            url = str((running_stack(settings.root) or {}).get("url", ""))
            if not url:
                raise CommandFailed(
                    f"No GenPlat runs on {settings.root}. Start one with `genplat up`, name one "
                    "with --url or GENPLAT_URL, or train without one: --local."
                )
            key = key or stack.enter_context(passing_key(settings, "genplat train"))
        if not _is_address(url):
            raise CommandFailed(
                f"{url[:80]!r} is no address. It must look like http://127.0.0.1:8000."
            )
        if not key or not key.isascii() or not key.isprintable():
            raise CommandFailed(f"Give a key of {url} with --key or GENPLAT_API_KEY.")
        client = Client(url.rstrip("/"), key)
        stack.callback(client.close)
        yield client


def _is_address(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def _dataset_id(client: Client, key: str, content: Content, report: Report) -> str:
    """The dataset that is named by a file, by its id or by its name (then its newest version)."""
    named = content[key]
    path = Path(named)
    if path.is_absolute() and path.is_file():
        name = (content.get("name") if key == "dataset" else None) or path.stem
        return _uploaded(client, path, str(name), report)
    if named.startswith("ds_"):
        return str(named)
    for dataset in _datasets(client, named):
        if dataset["name"] == named:
            return str(dataset["id"])
    raise CommandFailed(f"{key}: {named!r} is neither a file nor the id or name of a dataset.")


def _uploaded(client: Client, path: Path, name: str, report: Report) -> str:
    """The dataset that a file is; one that was uploaded before is used again."""
    digest = sha256_of(path)
    for dataset in _datasets(client, name):
        if (dataset["name"], dataset["sha256"]) == (name, digest):
            report.say(f"Dataset {dataset['id']}: {path.name} is there already.")
            return str(dataset["id"])
    with path.open("rb") as file:
        made = client.ask(
            "POST",
            "/api/datasets",
            data={"name": name, "sha256": digest},
            files={"file": (path.name, file)},
        )
    report.say(f"Dataset {made['id']}: {made['rows']:,} rows of {path.name}.")
    return str(made["id"])


def _datasets(client: Client, name: str) -> Iterator[Json]:
    """Datasets, newest first; all of this name are among them."""
    query: dict[str, Any] = {"limit": PAGE, "name": name}
    while True:
        page = client.ask("GET", "/api/datasets", params=query)
        yield from page["data"]
        if not page["has_more"]:
            return
        query["after"] = page["data"][-1]["id"]


def train_here(content: Content, *, settings: GatewaySettings, as_json: bool) -> int:
    """Train in a child process, without any service; returns its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.json"
        write_as_json(content, spec)
        code = subprocess.call(
            # Another service: the gateway never imports it.
            (sys.executable, "-m", "trainer_service.finetune", str(spec)),
            env={**os.environ, "PYTHONSAFEPATH": "1", "GENPLAT_DATA_DIR": str(settings.root)},
            stdout=sys.stderr if as_json else None,
        )
    if as_json:
        status = "failed" if code else "succeeded"
        result = {"status": status, "output_dir": content["output_dir"]}
        Report(sys.stdout, as_json=True).event("run", result)
    return code
