"""All that can be known of a stack at rest, as plain data; judges nothing."""

import contextlib
import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.database import Database, make_engine
from gateway.datasets.placing import remove_orphans
from gateway.reconciler import remove_stale
from shared.storage import MANIFEST, manifest_problem, sha256_of
from tests.chaos import processes
from tests.chaos.monitor import Observations
from tests.chaos.stack import Stack
from tests.chaos.stages import Tail
from trainer_service.spare import WAIT

Row = dict[str, Any]
_JSON = {"spec", "payload"}


@dataclass(frozen=True)
class Result:
    """A run's result on disk: what is wrong with it, and the hash of its manifest."""

    problem: str | None
    manifest_sha256: str | None


@dataclass
class Evidence:
    """``acknowledged``, ``datasets_sent``, ``streams``: the client's history. ``runs``, ``events``,
    ``metrics``, ``datasets``: the database's tables. ``files``: each run's ``events.jsonl``."""

    acknowledged: list[Row] = field(default_factory=list)
    asked: list[Row] = field(default_factory=list)
    datasets_sent: list[Row] = field(default_factory=list)
    streams: list[Row] = field(default_factory=list)
    runs: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    datasets: list[Row] = field(default_factory=list)
    files: dict[str, list[Row]] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    dataset_hashes: dict[str, str] = field(default_factory=dict)
    folders: dict[str, set[str]] = field(default_factory=dict)
    observed: Observations = field(default_factory=Observations)
    temporary: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    files_grown: list[str] = field(default_factory=list)
    integrity: list[str] = field(default_factory=list)
    shown_secrets: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)


def collect(stack: Stack) -> Evidence:
    """Look at everything. The stack should be at rest: no run in training."""
    sweep(stack)
    tables = _tables(stack.database)
    return Evidence(
        acknowledged=stack.history.all("run"),
        asked=stack.history.all("asked"),
        datasets_sent=stack.history.all("dataset"),
        streams=stack.history.all("stream"),
        runs=tables["runs"],
        events=tables["run_events"],
        metrics=tables["metrics"],
        datasets=tables["datasets"],
        files={run["id"]: _events_file(stack, run["id"]) for run in tables["runs"]},
        results={run["id"]: _result(stack.storage.run_result(run["id"])) for run in tables["runs"]},
        dataset_hashes=_dataset_hashes(stack, tables["datasets"]),
        folders={kind: _names(stack.storage.root / kind) for kind in ("runs", "datasets")},
        observed=stack.monitor.observations,
        temporary=_temporary(stack),
        strangers=_strangers(stack),
        files_grown=_files_grown(stack),
        integrity=_integrity(stack.database),
        shown_secrets=_shown_secrets(stack),
        tracebacks=_tracebacks(stack),
    )


def sweep(stack: Stack) -> None:
    """What the gateway's own sweep does in the end, however long it waits for that."""
    remove_stale(stack.storage, older_than=0)
    with contextlib.closing(Database(make_engine(f"sqlite:///{stack.database}"))) as database:
        remove_orphans(database, stack.storage, older_than=0)


def _tables(database: Path) -> dict[str, list[Row]]:
    names = ("runs", "run_events", "metrics", "datasets")
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return {
            name: [_row(row) for row in connection.execute(f"SELECT * FROM {name}")]
            for name in names
        }


def _row(row: sqlite3.Row) -> Row:
    values = dict(row)
    return values | {name: json.loads(values[name]) for name in values.keys() & _JSON}


def _integrity(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        whole = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        keys = connection.execute("PRAGMA foreign_key_check").fetchall()
    return [said for said in whole if said != "ok"] + [f"foreign key {row}" for row in keys]


def _events_file(stack: Stack, run_id: str) -> list[Row]:
    return list(Tail(stack.storage.run_events(run_id)).more())


def _result(folder: Path) -> Result:
    manifest = folder / MANIFEST
    return Result(manifest_problem(folder), sha256_of(manifest) if manifest.is_file() else None)


def _dataset_hashes(stack: Stack, datasets: list[Row]) -> dict[str, str]:
    sources = {row["id"]: stack.storage.dataset_source(row["id"]) for row in datasets}
    return {name: sha256_of(source) for name, source in sources.items() if source.is_file()}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _temporary(stack: Stack) -> list[str]:
    """Half-written things that the gateway's own sweep leaves, however old they get."""
    root = stack.storage.root
    left = [path for path in root.rglob("*") if path.name.endswith(".tmp")]
    left += stack.storage.temporary().iterdir()
    return sorted({str(path.relative_to(root)) for path in left})


def _strangers(stack: Stack) -> list[str]:
    """Processes of this stack that no service answers for."""
    known = {service.pid for service in stack.services.values() if service.running}
    # What waits for a service that lives: PlantUML's Java, and a training child without a run.
    spares = tuple(f"{WAIT} {pid}" for pid in known)
    commands = [processes.command_of(pid) for pid in stack.everybody() if pid not in known]
    return [c for c in commands if "java" not in c and not c.strip().endswith(spares)]


def _files_grown(stack: Stack) -> list[str]:
    """Services that hold more open files than when nothing had happened yet."""
    grown = []
    for service in stack.services.values():
        if not service.running:
            continue
        now = processes.open_files(service.pid)
        if service.usual_files is None:
            service.usual_files = now
        # A connection more to Redis, the database, the client: pools fill when they are used.
        if now > service.usual_files * 1.1 + 8:
            grown.append(f"{service.name}: {service.usual_files} -> {now}")
    return grown


def _texts(stack: Stack) -> dict[str, str]:
    """What people may come to read: logs, and what a run's folder says."""
    paths = [*stack.logs.iterdir(), *stack.storage.root.glob("runs/*/*.json*")]
    return {path.name: path.read_text(errors="replace") for path in paths}


def _shown_secrets(stack: Stack) -> list[str]:
    return [
        f"{name} shows {secret[:8]}…"
        for name, text in _texts(stack).items()
        for secret in stack.secrets
        if secret in text
    ]


def _tracebacks(stack: Stack) -> list[str]:
    return [
        f"{name}: {text[place - 200 : place + 2000]}"
        for name, text in _texts(stack).items()
        if (place := text.find("Traceback (most recent call last)")) >= 0
    ]
