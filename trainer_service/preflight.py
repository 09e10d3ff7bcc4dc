"""Makes a pre-flight report: everything that can be said of a run before it starts.

Started as ``python -m trainer_service.preflight FILE`` by `trainer_service.preflighting`. What
cannot be looked at is said so; a fault in one part costs none of the others.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from shared import request_id
from shared.errors import GenPlatError
from shared.hyperparameters import resolve_hyperparameters
from shared.logs import configure_logging_of_child
from shared.memory import Longest, Model, model_of
from shared.model_library import has_local_weights
from shared.preflight import (
    SHOWN_EXAMPLES,
    MemoryReport,
    PreflightCommand,
    PreflightFile,
    PreflightReport,
    TimeReport,
)
from shared.runs import FineTuneSpec, Hyperparameters
from shared.storage import Storage
from trainer_service import exit_codes
from trainer_service.base_models import prepare_base_model
from trainer_service.continuing import inherited_spec
from trainer_service.finetune import quiet_libraries
from trainer_service.guards import die_with_parent, offer_to_oom_killer
from trainer_service.hardware import Device, find_device, thread_count
from trainer_service.job_files import Job, SupervisedSpec, read_json, supervised_job
from trainer_service.launching import too_many
from trainer_service.lessons import split
from trainer_service.mixing import Part, rows_in_epoch
from trainer_service.preflight_advice import (
    warn_of_data,
    warn_of_devices,
    warn_of_rows,
    warn_of_settings,
)
from trainer_service.preflight_data import look_at
from trainer_service.preflight_fit import look_at_memory
from trainer_service.preflight_reading import Reading, read_data
from trainer_service.preflight_rows import look_at_labels, look_at_lengths, percentile, show
from trainer_service.preflighting import write_report
from trainer_service.reading import limits_of, longest_of
from trainer_service.spreading import Plan, model_in
from trainer_service.warm_up import measure_run

log = logging.getLogger(__name__)

# Why the time was not measured.
BUSY = "A run is training on this device: a measurement would slow it down, and be wrong itself."
NOT_HERE = "The base model is not on this machine."
NO_ROOM = "The run does not fit into the device's memory."
SHARDED = "The model is divided among devices: steps on one of them would say nothing."
NOT_STARTED = "The first steps of the run failed."
UNDER_WAY = "The measurement did not come to an end."
MISSING_MODEL = (
    "{id} is not on this machine yet, so its tokenizer could not be asked: lengths, template and "
    "time are left out. Prepare it in the model library, then check again."
)


class Wanted(BaseModel):
    """What the worker hands to this child."""

    model_config = ConfigDict(extra="forbid")

    command: PreflightCommand
    data_dir: Path
    busy: bool = False
    parent_pid: int = 0


class Examination:
    """One report in the making."""

    def __init__(
        self, command: PreflightCommand, storage: Storage, *, device: Device, busy: bool
    ) -> None:
        self.command = command
        self.entry = command.model
        self.storage = storage
        self.device = device
        self.busy = busy
        self.found: dict[str, Any] = {"problems": [], "warnings": [], "missing": []}
        self.found["time"] = TimeReport(measured=False, reason=UNDER_WAY)
        self.job: Job | None = None
        self.folder: Path | None = None
        self.reading: Reading | None = None

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """A fault that would end the run is part of the report."""
        try:
            yield
        except GenPlatError as error:
            self.found["problems"].append(error.message)

    def look(self) -> None:
        """Find out everything but the time."""
        with self._noting():
            wanted = SupervisedSpec(command=self.command.run, data_dir=self.storage.root)
            self.job = supervised_job(wanted)
            self._look_at(self.job)

    def report(self) -> PreflightReport:
        time: TimeReport = self.found["time"]
        return PreflightReport(
            id=self.command.id,
            status="done",
            created_at=datetime.now(UTC),
            final=time.reason not in (BUSY, UNDER_WAY),
            spec=self.command.run.spec,
            datasets=self.command.datasets,
            **self.found,
        )

    def _look_at(self, job: Job) -> None:
        datasets, validation = split(job)
        records = [record for each in datasets for record in each.records]
        self.found["data"] = data = look_at(records, validation)
        self.found["warnings"] += warn_of_data(data)
        spec = job.spec
        with self._noting():
            spec = inherited_spec(job)
            self._get_model(job)
            if self.folder is not None:
                self.reading = read_data(job, spec, self.folder, datasets, validation)
        parts = [Part(len(each.records), each.weight) for each in datasets]
        numbers = self._decide(spec, parts, len(validation))
        if self.reading is not None:
            self._look_at_rows(self.reading, numbers)
            limits = limits_of(numbers)
            kept = self.reading.parts(limits)
            # Rows that are left out change the number of steps that an epoch has.
            parts = kept if rows_in_epoch(kept) else parts
            numbers = self._decide(spec, parts, len(self.reading.kept_validation(limits)))
        self.found |= {"hyperparameters": numbers, "epochs": numbers.num_train_epochs}
        self.found["warnings"] += warn_of_settings(spec, numbers, **self._facts(parts))
        if (why := too_many(spec.devices)) is not None:
            self.found["problems"].append(why)
        self.found["warnings"] += warn_of_devices(spec.devices, self.device.kind)
        self._look_at_memory(spec, numbers)

    def _get_model(self, job: Job) -> None:
        """What lies on this machine is prepared; nothing is downloaded for a check."""
        if not has_local_weights(self.storage, self.entry):
            self.found["missing"].append(MISSING_MODEL.format(id=self.entry.id))
            return
        self.folder = prepare_base_model(self.storage, self.entry.id, folder=job.base_model_folder)

    def _facts(self, parts: list[Part]) -> dict[str, Any]:
        """What decides every "auto" beside the spec; the model's own word before the library's."""
        reading = self.reading
        return {
            "examples": rows_in_epoch(parts),
            "context_length": reading.context_length if reading else self.entry.context_length,
            "family": reading.template.family if reading else self.entry.family,
            "parameters": self.entry.parameters,
        }

    def _decide(
        self, spec: FineTuneSpec, parts: list[Part], validation_examples: int
    ) -> Hyperparameters:
        return resolve_hyperparameters(
            spec,
            **self._facts(parts),
            longest=self.reading.longest if self.reading else None,
            validation_examples=validation_examples,
        )

    def _look_at_rows(self, reading: Reading, numbers: Hyperparameters) -> None:
        limits = limits_of(numbers)
        kept = [sized for own in reading.kept(limits) for sized in own]
        lengths = look_at_lengths(reading.rows, limits)
        labels = look_at_labels([sized.row for sized in kept], reading.template)
        self.found |= {
            "lengths": lengths,
            "labels": labels,
            "examples": [
                show(reading.tokenizer, sized.row) for sized in (kept or [])[:SHOWN_EXAMPLES]
            ],
        }
        self.found["warnings"] += warn_of_rows(lengths, labels)
        if reading.rows and not kept:
            field = "max_target_length" if reading.template.family == "seq2seq" else "max_length"
            self.found["problems"].append(
                f"Every row is longer than {field} ({getattr(numbers, field)} tokens). Raise "
                f"{field} or shorten the texts."
            )

    def _look_at_memory(self, spec: FineTuneSpec, numbers: Hyperparameters) -> None:
        model = self._model()
        if model is None:
            self.found["missing"].append(
                "The model's shape is not known, so the memory that the run needs is not known."
            )
            return
        plan = Plan(
            model, spec.method, numbers, *self._longest(numbers), spec.devices, spec.sharding
        )
        self.found["memory"] = memory = look_at_memory(plan, self.device)
        if not memory.fits:
            self.found["problems"].append(memory.sentence)

    def _model(self) -> Model | None:
        if self.folder is None:
            return model_of(self.entry)
        return model_in(self.folder)

    def _longest(self, numbers: Hyperparameters) -> tuple[Longest | None, int | None]:
        """The longest row that is kept, and how long 95 of 100 are at most."""
        if self.reading is None:
            return None, None
        limits = limits_of(numbers)
        kept = [sized.row for own in self.reading.kept(limits) for sized in own]
        kept += [sized.row for sized in self.reading.kept_validation(limits)]
        if not kept:
            return None, None
        seq2seq = self.reading.template.family == "seq2seq"
        read = sorted(row.size[0] if seq2seq else row.size[1] for row in kept)
        return longest_of(kept), percentile(read, 95)

    def measure(self) -> None:
        """The time that the run takes; the rest of the report must be made already."""
        memory: MemoryReport | None = self.found.get("memory")
        numbers: Hyperparameters | None = self.found.get("hyperparameters")
        reason = NOT_STARTED
        if self.busy:
            reason = BUSY
        elif self.reading is None or self.job is None or numbers is None:
            reason = NOT_HERE
        elif memory is not None and not memory.fits:
            reason = NO_ROOM
        elif memory is not None and memory.sharded:
            reason = SHARDED
        else:
            with self._noting():
                self.found["time"] = measure_run(
                    self.job, self.reading, numbers, device=self.device
                )
                return
        self.found["time"] = TimeReport(measured=False, reason=reason)


def main(arguments: list[str]) -> int:
    configure_logging_of_child()
    quiet_libraries()
    wanted = Wanted.model_validate(read_json(Path(arguments[0])))
    request_id.go_on(wanted.command.run.request_id)
    die_with_parent(wanted.parent_pid)
    offer_to_oom_killer()
    torch.set_num_threads(thread_count())
    storage = Storage(wanted.data_dir)
    command = wanted.command
    examination = Examination(command, storage, device=find_device(), busy=wanted.busy)
    try:
        examination.look()
        # Written before the steps are tried: what is known should outlive whatever they do.
        _write(examination, storage)
        examination.measure()
        _write(examination, storage)
    except Exception as error:
        log.exception("The check %s failed", command.id)
        return exit_codes.exit_code_of(error)
    return exit_codes.OK


def _write(examination: Examination, storage: Storage) -> None:
    file = PreflightFile(owner=examination.command.owner, report=examination.report())
    write_report(storage, file)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # As in `trainer_service.child`: Python's tidying up hangs now and then.
    sys.stderr.flush()
    os._exit(code)
