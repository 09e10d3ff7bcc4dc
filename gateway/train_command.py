"""`genplat train`: what a file and flags ask for, trained by a GenPlat that runs, or right here.

Talks to the platform through its public REST API alone.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from gateway.client import Client, Json
from gateway.flat_config import Content
from gateway.platform import find_dataset, is_file, platform
from gateway.progress import Told, duration, training_line
from gateway.settings import GatewaySettings
from gateway.train_config import DATA, checked_spec, write_as_json
from gateway.uploading import uploaded
from shared.runs import TERMINAL

_WITHOUT = "train without one: --local."
INTERRUPTED = 130
EXIT_CODES = {"succeeded": 0, "failed": 1, "cancelled": 3}


class Report(Told):
    """Its last event is the run."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        super().__init__(stream, as_json=as_json)
        self._live = stream.isatty() and not as_json
        self._state: Json = {}

    def event(self, name: str, data: Json) -> None:
        super().event(name, data)
        if self._as_json:
            return
        if name == "log":
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
    with platform(settings, url, key, command="genplat train", without=_WITHOUT) as client:
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


def _dataset_id(client: Client, key: str, content: Content, report: Report) -> str:
    """The dataset that is named by a file, by its id or by its name (then its newest version)."""
    named = content[key]
    if not is_file(named):
        return find_dataset(client, named, key=key)
    path = Path(named)
    name = (content.get("name") if key == "dataset" else None) or path.stem
    return uploaded(client, path, say=report.say, name=str(name))


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
