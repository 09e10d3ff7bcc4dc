"""Has a run checked before it is started: asks the trainer, waits for its report, finds it again.

Knows no HTTP. A report is kept under the digest of what was asked, so that the same question is
answered at once.
"""

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pydantic import ValidationError
from redis.exceptions import RedisError

from gateway import library
from gateway.datasets import store
from gateway.run_queue import continued_run
from gateway.runs import checked_spec
from gateway.services import Services
from gateway.tables import Dataset
from shared import request_id
from shared.errors import InvalidData, NotFound, Unavailable
from shared.job_queue import PREFLIGHT
from shared.model_library import LibraryEntry, has_local_weights
from shared.preflight import (
    SHOWN_PROBLEMS,
    VERSION,
    DatasetFacts,
    PreflightCommand,
    PreflightFile,
    PreflightReport,
    job_id,
)
from shared.runs import DatasetRef, FineTuneSpec, RunCommand
from shared.storage import Storage

QUEUE_SECONDS = 5.0
POLL_SECONDS = 0.2
# A report that may say more when asked again is given once more for this long.
FRESH = timedelta(seconds=30)


class Source(NamedTuple):
    """A dataset in its part of a run."""

    dataset: Dataset
    weight: float = 1.0


async def start(*, services: Services, owner: str, spec: FineTuneSpec) -> str:
    """Ask for the check of ``spec``; its id. Nothing is asked twice."""
    command = await asyncio.to_thread(_command, services, owner, spec)
    report = await asyncio.to_thread(_report, services.storage, owner, command.id)
    if report is not None and _stands(report):
        return command.id
    try:
        async with asyncio.timeout(QUEUE_SECONDS):
            payload = command.model_dump(mode="json")
            await services.queue.enqueue(PREFLIGHT, job_id(command.id), payload)
    except (RedisError, OSError) as error:
        raise Unavailable(
            "The queue cannot be reached, so nothing was checked. Try again in a moment.",
            code="queue_unavailable",
            retry_after=5,
        ) from error
    return command.id


async def find(*, services: Services, owner: str, preflight_id: str) -> PreflightReport | None:
    """The finished report, or None while it is made. NotFound where nobody asked, or the check
    ended without a report."""
    held = await _held(services, preflight_id)
    report = await asyncio.to_thread(_report, services.storage, owner, preflight_id)
    if held:
        return None
    if report is None:
        raise NotFound(
            f"There is no pre-flight report {preflight_id[:80]!r}: its check may have been cut "
            "short. Check the run again."
        )
    await asyncio.to_thread(_still_there, services, owner, report)
    return report


def _still_there(services: Services, owner: str, report: PreflightReport) -> None:
    """A report shows rows of its datasets: it goes when one of them does."""
    for dataset in report.datasets:
        store.get_dataset(database=services.database, owner=owner, dataset_id=dataset.id)


async def wait(
    *, services: Services, owner: str, preflight_id: str, seconds: float
) -> PreflightReport | None:
    """`find`, again and again for up to ``seconds``."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        report = await find(services=services, owner=owner, preflight_id=preflight_id)
        if report is not None or asyncio.get_running_loop().time() >= deadline:
            return report
        await asyncio.sleep(POLL_SECONDS)


async def _held(services: Services, preflight_id: str) -> bool:
    """Whether the check waits or is under way; where Redis does not say, a report counts."""
    try:
        async with asyncio.timeout(QUEUE_SECONDS):
            return await services.queue.holds(job_id(preflight_id))
    except (RedisError, OSError):
        return False


def _stands(report: PreflightReport) -> bool:
    """Whether asking again would say the same."""
    if report.version != VERSION or report.status == "failed":
        return False
    return report.final or datetime.now(UTC) - report.created_at < FRESH


def _report(storage: Storage, owner: str, preflight_id: str) -> PreflightReport | None:
    try:
        found = PreflightFile.model_validate_json(storage.preflight(preflight_id).read_bytes())
    except (OSError, ValidationError, ValueError):
        return None
    return found.report if found.owner == owner else None


def _command(services: Services, owner: str, spec: FineTuneSpec) -> PreflightCommand:
    """What the trainer is to check. InvalidData, naming the field, where the run could not even be
    made."""
    known: dict[str, Any] = {
        "database": services.database,
        "storage": services.storage,
        "owner": owner,
    }
    spec = checked_spec(**known, spec=spec)
    entry = library.get_library_item(**known, model_id=spec.base_model).entry
    sources = _sources(services, owner, spec)
    validation = _validation(services, owner, spec)
    preflight_id = _digest(services.storage, owner, spec, entry, [*sources, *validation])
    run = RunCommand(
        run_id=preflight_id,
        attempt=1,
        spec=spec,
        datasets=tuple(_ref(source) for source in sources),
        validation=_ref(validation[0]) if validation else None,
        base_model_folder=entry.folder,
        chat_template=entry.chat_template,
        continue_from=continued_run(spec),
        request_id=request_id.current(),
    )
    facts = [_facts(source) for source in sources]
    facts += [_facts(source, role="validation") for source in validation]
    return PreflightCommand(id=preflight_id, owner=owner, run=run, model=entry, datasets=facts)


def _sources(services: Services, owner: str, spec: FineTuneSpec) -> list[Source]:
    param = "dataset_id" if spec.dataset_id else "datasets"
    return [Source(_dataset(services, owner, part.id, param), part.weight) for part in spec.sources]


def _validation(services: Services, owner: str, spec: FineTuneSpec) -> list[Source]:
    if spec.validation_dataset_id is None:
        return []
    param = "validation_dataset_id"
    return [Source(_dataset(services, owner, spec.validation_dataset_id, param))]


def _dataset(services: Services, owner: str, dataset_id: str, param: str) -> Dataset:
    try:
        return store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    except NotFound as error:
        raise InvalidData(
            f"{param} names no dataset of yours: {dataset_id!r}.", param=param
        ) from error


def _ref(source: Source) -> DatasetRef:
    return DatasetRef(
        id=source.dataset.id,
        records_sha256=source.dataset.records_sha256,
        weight=source.weight,
    )


def _facts(source: Source, *, role: str = "training") -> DatasetFacts:
    dataset = source.dataset
    return DatasetFacts.model_validate(
        {
            "id": dataset.id,
            "name": dataset.name,
            "version": dataset.version,
            "format": dataset.format,
            "rows": dataset.rows,
            "weight": source.weight,
            "role": role,
            "skipped_rows": dataset.skipped_rows,
            "problems": dataset.problems[:SHOWN_PROBLEMS],
            "warnings": dataset.warnings,
        }
    )


def _digest(
    storage: Storage,
    owner: str,
    spec: FineTuneSpec,
    entry: LibraryEntry,
    sources: list[Source],
) -> str:
    """An id that nobody can guess who may not ask: datasets' ids are secret to their owners."""
    asked = [
        VERSION,
        owner,
        spec.model_dump(mode="json"),
        entry.model_dump(mode="json"),
        # Once the model is here, there is more to say.
        has_local_weights(storage, entry),
        [(each.dataset.id, each.dataset.records_sha256) for each in sources],
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:40]
