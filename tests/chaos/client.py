"""A client that writes down what it was told; it asks as users do, by HTTP."""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.history import History
from tests.chaos.times import BUSY_SECONDS
from tests.trainer_service.tiny import TINY_MODEL

Json = dict[str, Any]
ENDED = ("succeeded", "failed", "cancelled")
STEPS = 40
SAVE_STEPS = 10
# A row of the dataset; long enough to be told from the others.
_ROWS = "".join(f"question {number},answer {number}\n" for number in range(40))
CSV = b"text,target\n" + _ROWS.encode()


class Client:
    """Speaks to one gateway. Answers that promise something go into the history."""

    def __init__(self, port: int, key: str, history: History) -> None:
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        self.history = history
        self.dataset_id = ""

    def close(self) -> None:
        self.http.close()

    def prepare(self) -> None:
        """What every run needs: the base model in the library, a dataset."""
        answer = self.http.post("/api/library", json={"id": TINY_MODEL, "name": "Tiny"})
        answer.raise_for_status()
        self.dataset_id = self.upload().json()["id"]

    def upload(self, name: str = "pairs", content: bytes = CSV, **more: Any) -> httpx.Response:
        answer = self.http.post(
            "/api/datasets", data={"name": name}, files={"file": ("a.csv", content)}, **more
        )
        if answer.status_code == 201:
            digest = hashlib.sha256(content).hexdigest()
            self.history.add("dataset", id=answer.json()["id"], sha256=digest)
        return answer

    def spec(self, **changes: Any) -> Json:
        return {
            "base_model": TINY_MODEL,
            "dataset_id": self.dataset_id,
            "validation_split": 0,
            "max_steps": STEPS,
            "save_steps": SAVE_STEPS,
            "per_device_train_batch_size": 2,
            "lora_r": 4,
            "learning_rate": 5e-3,
            "lora_dropout": 0.1,
        } | changes

    def submit(self, key: str | None = None, **changes: Any) -> httpx.Response:
        """Ask for a run. Its ``suffix`` names what it was asked by: of one key, one run."""
        key = key or uuid.uuid4().hex
        spec = self.spec(suffix=key[:32]) | changes
        self.history.add("asked", key=key, suffix=spec["suffix"])
        answer = self.http.post("/api/runs", json=spec, headers={"Idempotency-Key": key})
        if answer.status_code == 202:
            run_id = answer.json()["id"]
            self.history.add("run", key=key, id=run_id, steps=spec["max_steps"])
        return answer

    def start_run(self, **changes: Any) -> str:
        answer = self.submit(**changes)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def cancel(self, run_id: str) -> httpx.Response:
        return self.http.post(f"/api/runs/{run_id}/cancel")

    def submit_until_answered(
        self, key: str, seconds: float = 2 * BUSY_SECONDS, **changes: Any
    ) -> Json:
        """Ask under the same key until it is acknowledged, as a client does whose connection
        broke."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = self.submit(key, **changes)
                if answer.status_code == 202:
                    body: Json = answer.json()
                    return body
                assert answer.status_code in (409, 503), answer.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "never acknowledged"
            time.sleep(0.2)

    def run(self, run_id: str) -> Json:
        answer = self.http.get(f"/api/runs/{run_id}")
        answer.raise_for_status()
        body: Json = answer.json()
        return body

    def log(self, run_id: str) -> list[str]:
        lines = self.http.get(f"/api/runs/{run_id}/log").raise_for_status().json()["data"]
        return [line["message"] for line in lines]

    def resumed_step(self, run_id: str) -> int:
        """The step that the last attempt went on from."""
        steps = [0]
        for line in self.log(run_id):
            if line.startswith("Goes on from the checkpoint at step "):
                steps.append(int(line.rstrip(".").rpartition(" ")[2]))
        return steps[-1]

    def metrics(self, run_id: str) -> list[Json]:
        body = self.http.get(f"/api/runs/{run_id}/metrics").raise_for_status().json()
        rows: list[Json] = body["data"]
        return rows

    def wait(
        self, run_id: str, ready: Callable[[Json], bool], seconds: float = 2 * BUSY_SECONDS
    ) -> Json:
        """Until the run is as wanted. A gateway that is away meanwhile is waited for."""
        deadline = time.monotonic() + seconds
        state: Json | None = None
        while True:
            try:
                if ready(state := self.run(run_id)):
                    return state
            except (httpx.TransportError, httpx.HTTPStatusError):
                pass
            assert time.monotonic() < deadline, f"waited in vain; the run is {state}"
            time.sleep(0.05)

    def wait_end(self, run_id: str, status: str = "succeeded", seconds: float = 300) -> Json:
        run = self.wait(run_id, lambda run: run["status"] in ENDED, seconds)
        assert run["status"] == status, (run, self.log(run_id))
        return run

    def wait_all(self, seconds: float = 300) -> None:
        """Until every run that was acknowledged has ended."""
        for run in self.history.all("run"):
            self.wait(run["id"], lambda run: run["status"] in ENDED, seconds)

    def wait_step(self, run_id: str, step: int, attempt: int = 1) -> Json:
        """Until so many steps of an attempt (or of a later one) are done."""
        return self.wait(
            run_id,
            lambda run: (
                run["status"] in ENDED
                or run["attempt"] > attempt
                or (run["attempt"] == attempt and run["phase"] and run["step"] >= step)
            ),
        )


def trains(attempt: int) -> Callable[[Json], bool]:
    """Whether a run is in training at an attempt, or beyond."""
    return lambda run: (
        run["status"] in ENDED
        or (run["status"] == "running" and run["attempt"] >= attempt and run["phase"] == "training")
    )


@dataclass
class Told:
    """What one stream of server-sent events told, and how it ended."""

    client: Client
    url: str
    last_id: str | None = None
    events: list[tuple[str, Json]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[Json]:
        return [data for name, data in self.events if name == kind]

    def read(self) -> None:
        """To the end, whichever it is."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        try:
            with self.client.http.stream("GET", self.url, headers=headers, timeout=120) as answer:
                answer.raise_for_status()
                self._take(answer.iter_lines())
            self.ends.append("done")
        except httpx.TransportError:
            self.ends.append("broken")
        self.client.history.add("stream", of=self.url, ends=self.ends)

    def _take(self, lines: Iterator[str]) -> None:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                self.events.append((fields.get("event", ""), json.loads(fields["data"])))
                self.last_id = fields.get("id", self.last_id)
                fields = {}


def follow(client: Client, run_id: str, after: str | None = None) -> Told:
    """A run's events, to be read."""
    return Told(client, f"/api/runs/{run_id}/events", last_id=after)
