"""Reads what a training is asked to do: a gateway's command or a shell user's file; no torch.

A shell user's ``SPEC.json`` holds the fields of `FineTuneSpec` beside ``dataset`` (a .jsonl or .csv
file, relative to the spec), optionally ``validation_dataset``, and ``output_dir``.
"""

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.datasets import Record, read_records
from shared.errors import InvalidData, InvalidRequest
from shared.runs import DatasetRef, FineTuneSpec, RunCommand
from shared.storage import Storage, sha256_of


@dataclass(frozen=True)
class Job:
    """One training, wherever it was asked for. ``validation`` None: split it off ``records``;
    ``base_model_folder``: where a base model lies that nobody has prepared yet."""

    spec: FineTuneSpec
    records: list[Record]
    validation: list[Record] | None
    storage: Storage
    checkpoints: Path
    result: Path
    fingerprint: str
    base_model_folder: Path | None = None


class SupervisedSpec(BaseModel):
    """What a supervisor hands to its child."""

    model_config = ConfigDict(extra="forbid")

    command: RunCommand
    data_dir: Path
    worker: str = ""
    parent_pid: int = 0
    dead_man_seconds: float = Field(20, gt=0)


class ShellFiles(BaseModel):
    """The fields of a shell user's file that are no part of `FineTuneSpec`."""

    model_config = ConfigDict(extra="forbid")

    dataset: Path
    validation_dataset: Path | None = None
    output_dir: Path


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{path} must hold a JSON object.")
    return content


def parse_supervised(content: dict[str, Any]) -> SupervisedSpec:
    try:
        return SupervisedSpec.model_validate(content)
    except ValidationError as error:
        raise InvalidRequest(_sentence(error)) from error


def supervised_job(spec: SupervisedSpec) -> Job:
    """The job of a gateway's command: datasets by id, checked against the hashes it names."""
    command = spec.command
    storage = Storage(spec.data_dir)
    hashes = [dataset.records_sha256 for dataset in command.datasets]
    records = [
        record for dataset in command.datasets for record in _stored_records(storage, dataset)
    ]
    validation = None
    if command.validation is not None:
        hashes.append(command.validation.records_sha256)
        validation = _stored_records(storage, command.validation)
    return Job(
        spec=command.spec,
        records=records,
        validation=validation,
        storage=storage,
        checkpoints=storage.run_checkpoints(command.run_id),
        result=storage.run_result(command.run_id),
        fingerprint=_fingerprint(command.spec, hashes),
        base_model_folder=command.base_model_folder,
    )


def shell_job(content: dict[str, Any], *, base: Path, storage: Storage) -> Job:
    """The job of a shell user's file; ``base`` is where its paths begin."""
    own = {name: content[name] for name in ShellFiles.model_fields if name in content}
    rest = {name: value for name, value in content.items() if name not in own}
    try:
        files = ShellFiles.model_validate(own)
        spec = FineTuneSpec.model_validate({"dataset_id": files.dataset.stem[:80], **rest})
    except ValidationError as error:
        raise InvalidRequest(_sentence(error)) from error
    paths = [base / files.dataset]
    if files.validation_dataset:
        paths.append(base / files.validation_dataset)
    loaded = [load_records(path) for path in paths]
    return Job(
        spec=spec,
        records=loaded[0],
        validation=loaded[1] if len(loaded) > 1 else None,
        storage=storage,
        checkpoints=base / files.output_dir / "checkpoints",
        result=base / files.output_dir / "result",
        fingerprint=_fingerprint(spec, [sha256_of(path) for path in paths]),
    )


def load_records(path: Path) -> list[Record]:
    """Records of a file: canonical or prompt/completion JSON lines, or a text/target csv."""
    try:
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as lines:
                return [_pair(row, place) for place, row in enumerate(csv.DictReader(lines), 2)]
        with path.open(encoding="utf-8-sig") as lines:
            return [
                _from_json(json.loads(line), place)
                for place, line in enumerate(lines, 1)
                if line.strip()
            ]
    except OSError as error:
        raise InvalidRequest(f"dataset: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidData(f"{path.name}: {error}", param="dataset") from error


def _from_json(value: Any, place: int) -> Record:
    if isinstance(value, dict) and "messages" in value:
        return Record.model_validate({"messages": value["messages"]})
    if not isinstance(value, dict):
        raise InvalidData(f"Line {place} is not a JSON object.", param="dataset")
    return _pair(value, place)


def _pair(row: dict[str, Any], place: int) -> Record:
    for source, target in (("prompt", "completion"), ("prompt", "response"), ("text", "target")):
        if isinstance(row.get(source), str) and isinstance(row.get(target), str):
            return Record.from_pair(row[source], row[target])
    raise InvalidData(
        f"Line {place} has neither messages nor prompt/completion nor text/target.", param="dataset"
    )


def _stored_records(storage: Storage, dataset: DatasetRef) -> list[Record]:
    path = storage.dataset_records(dataset.id)
    if not path.is_file():
        raise InvalidData(
            f"The dataset {dataset.id} is gone: its records are not in the data folder."
        )
    if sha256_of(path) != dataset.records_sha256:
        raise InvalidData(f"The records of dataset {dataset.id} changed since the run was made.")
    return list(read_records(path))


def _fingerprint(spec: FineTuneSpec, hashes: list[str]) -> str:
    return hashlib.sha256("\n".join([spec.model_dump_json(), *hashes]).encode()).hexdigest()


def _sentence(error: ValidationError) -> str:
    """The first fault of a spec, by field."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "spec"
    return f"{field}: {first['msg']}."
