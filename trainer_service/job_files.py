"""Reads what a training is asked to do: a gateway's command or a shell user's file; no torch.

A shell user's ``SPEC.json`` holds the fields of `FineTuneSpec` beside ``dataset`` (a .jsonl or .csv
file, relative to the spec) or ``datasets`` (a list of ``{path, weight}``), optionally
``validation_dataset``, and ``output_dir``. Its ``continue_from`` is the output folder of an
earlier training, or one of the checkpoints in it.
"""

import csv
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.datasets import Record, read_records
from shared.errors import InvalidData, InvalidRequest
from shared.runs import MAX_DATASETS, ContinueFrom, DatasetRef, FineTuneSpec, RunCommand
from shared.storage import Storage, sha256_of


class WeightedRecords(NamedTuple):
    """The records of one dataset, and how often an epoch sees each."""

    records: list[Record]
    weight: float = 1.0


@dataclass(frozen=True)
class Job:
    """One training, wherever it was asked for. ``validation`` None: split it off the datasets;
    ``base_model_folder``: where a base model lies that nobody has prepared yet;
    ``chat_template``: for a tokenizer without one; ``first_weights``: folders in which to look for
    the weights to begin with, the first one that is there."""

    spec: FineTuneSpec
    datasets: tuple[WeightedRecords, ...]
    validation: list[Record] | None
    storage: Storage
    checkpoints: Path
    result: Path
    fingerprint: str
    base_model_folder: Path | None = None
    chat_template: str = ""
    first_weights: tuple[Path, ...] = ()

    @property
    def records(self) -> list[Record]:
        """Those of all datasets, each once."""
        return [record for dataset in self.datasets for record in dataset.records]


class SupervisedSpec(BaseModel):
    """What a supervisor hands to its child; ``alive_at`` is when it did, as `time.monotonic`
    says."""

    model_config = ConfigDict(extra="forbid")

    command: RunCommand
    data_dir: Path
    worker: str = ""
    parent_pid: int = 0
    dead_man_seconds: float = Field(20, gt=0)
    alive_at: float = Field(default_factory=time.monotonic)


class ShellDataset(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path
    weight: float = Field(1.0, gt=0, le=100, allow_inf_nan=False)


class ShellFiles(BaseModel):
    """The fields of a shell user's file that are no part of `FineTuneSpec`."""

    model_config = ConfigDict(extra="forbid")

    dataset: Path | None = None
    datasets: list[ShellDataset] = Field(default_factory=list, max_length=MAX_DATASETS)
    validation_dataset: Path | None = None
    output_dir: Path

    @model_validator(mode="after")
    def _one_way_to_name_data(self) -> Self:
        if (self.dataset is None) == (not self.datasets):
            raise ValueError("give either dataset or datasets")
        return self

    @property
    def sources(self) -> list[ShellDataset]:
        return self.datasets or [ShellDataset(path=self.dataset or Path())]


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
    named = [f"{dataset.records_sha256} {dataset.weight}" for dataset in command.datasets]
    validation = None
    if command.validation is not None:
        named.append(command.validation.records_sha256)
        validation = _stored_records(storage, command.validation)
    named += [command.chat_template, repr(command.continue_from)]
    return Job(
        spec=command.spec,
        datasets=tuple(
            WeightedRecords(_stored_records(storage, dataset), dataset.weight)
            for dataset in command.datasets
        ),
        validation=validation,
        storage=storage,
        checkpoints=storage.run_checkpoints(command.run_id),
        result=storage.run_result(command.run_id),
        fingerprint=_fingerprint(command.spec, named),
        base_model_folder=command.base_model_folder,
        chat_template=command.chat_template,
        first_weights=_run_weights(storage, command.continue_from),
    )


def _run_weights(storage: Storage, origin: ContinueFrom | None) -> tuple[Path, ...]:
    """Where another run's weights may lie: its result, or a checkpoint of it (which the trainer
    drops some day; one that was deployed stays)."""
    if origin is None:
        return ()
    if origin.step is None:
        return (storage.run_result(origin.run_id),)
    kept = storage.run_checkpoints(origin.run_id)
    forms = (kept / f"{form}-{origin.step}" for form in ("step", "weights"))
    return (storage.run_deployed(origin.run_id, origin.step), *forms)


def shell_job(content: dict[str, Any], *, base: Path, storage: Storage) -> Job:
    """The job of a shell user's file; ``base`` is where its paths begin."""
    own = {name: content[name] for name in ShellFiles.model_fields if name in content}
    rest = {name: value for name, value in content.items() if name not in own}
    try:
        files = ShellFiles.model_validate(own)
        spec = FineTuneSpec.model_validate({**_named(files.sources), **rest})
    except ValidationError as error:
        raise InvalidRequest(_sentence(error)) from error
    paths = [base / source.path for source in files.sources]
    if files.validation_dataset:
        paths.append(base / files.validation_dataset)
    loaded = [load_records(path) for path in paths]
    weights = [source.weight for source in files.sources]
    origin = base / spec.continue_from if spec.continue_from else None
    return Job(
        spec=spec,
        # (Behind them comes the one to validate on.)
        datasets=tuple(map(WeightedRecords, loaded, weights)),
        validation=loaded[-1] if files.validation_dataset else None,
        storage=storage,
        checkpoints=base / files.output_dir / "checkpoints",
        result=base / files.output_dir / "result",
        fingerprint=_fingerprint(spec, [sha256_of(path) for path in paths]),
        first_weights=(origin / "result", origin) if origin else (),
    )


def _named(sources: list[ShellDataset]) -> dict[str, Any]:
    """The datasets as `FineTuneSpec` names them: by the names of their files."""
    names = [source.path.stem[:70] for source in sources]
    if len(sources) == 1 and sources[0].weight == 1:
        return {"dataset_id": names[0]}
    return {
        "datasets": [
            {"id": f"{place}-{name}" if names.count(name) > 1 else name, "weight": source.weight}
            for place, (name, source) in enumerate(zip(names, sources, strict=True), 1)
        ]
    }


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
    # How weights lie on devices changes nothing that is learned or saved.
    content = spec.model_dump_json(exclude={"sharding"})
    return hashlib.sha256("\n".join([content, *hashes]).encode()).hexdigest()


def _sentence(error: ValidationError) -> str:
    """The first fault of a spec, by field."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "spec"
    return f"{field}: {first['msg']}."
