"""What runs learned from and what they kept apart: so that nothing is measured on rows that were
trained on, or at least nobody believes so unwarned."""

from collections.abc import Iterable, Sequence

from sqlalchemy import func
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.evaluations.candidates import Candidate
from gateway.evaluations.examples import Example
from gateway.run_queue import continued_run
from gateway.tables import Dataset, Run
from shared.datasets import Record, read_records
from shared.errors import InvalidData
from shared.runs import FineTuneSpec
from shared.splits import held_out_sources
from shared.storage import Storage

# Records that are read to find out what was trained on; more are not looked at, and that is said.
MAX_READ = 200_000
_MAX_ORIGINS = 20


def held_out_records(storage: Storage, run: Run) -> list[Record]:
    """The records that a run validates on; InvalidData where it has none, or they are gone."""
    spec = FineTuneSpec.model_validate(run.spec)
    if spec.validation_dataset_id is not None:
        records = _read(storage, [spec.validation_dataset_id])
    else:
        every = _read(storage, [source.id for source in spec.sources])
        kept = held_out_sources(every, share=spec.validation_split, seed=spec.seed)
        records = [record for record in every if record.source_key in kept]
    if not records:
        raise InvalidData(
            f"held_out_of: the run {run.id} validated on nothing (validation_split is 0). Name a "
            "dataset instead.",
            param="held_out_of",
        )
    return records


def _read(storage: Storage, dataset_ids: Iterable[str]) -> list[Record]:
    try:
        return [
            record
            for dataset_id in dataset_ids
            for record in read_records(storage.dataset_records(dataset_id))
        ]
    except FileNotFoundError as error:
        raise InvalidData(
            "held_out_of: the run's data was deleted, so that its held-out rows are not known.",
            param="held_out_of",
        ) from error


def warnings_of(
    *,
    database: Database,
    storage: Storage,
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
) -> list[str]:
    """A sentence for each candidate that learned some of the examples, or may have."""
    keys = {
        Record.model_validate({"messages": [*example.messages, _ANSWER]}).source_key
        for example in examples
    }
    found = []
    for candidate in candidates:
        if candidate.run_id is not None:
            sentence = _warning(database, storage, candidate, keys)
            found += [sentence] if sentence else []
    return found


_ANSWER = {"role": "assistant", "content": ""}


def _warning(
    database: Database, storage: Storage, candidate: Candidate, keys: set[str]
) -> str | None:
    with database.read() as session:
        runs = _lineage(session, candidate.run_id or "")
        rows = sum(_rows(session, FineTuneSpec.model_validate(run.spec)) for run in runs)
    if rows > MAX_READ:
        return (
            f"{candidate.name} learned from {rows:,} rows: too many to look whether these examples "
            "are among them."
        )
    try:
        seen = len(keys & set().union(*(_trained(storage, run) for run in runs)))
    except FileNotFoundError:
        return (
            f"What {candidate.name} learned from was deleted: nobody can tell whether it has seen "
            "these examples."
        )
    if not seen:
        return None
    return (
        f"{candidate.name} was trained on {seen} of these {len(keys)} examples: its numbers say "
        "less of unseen data. Evaluate on what it held out (held_out_of) or on other data."
    )


def _lineage(session: Session, run_id: str) -> list[Run]:
    runs: list[Run] = []
    while (run := session.get(Run, run_id)) is not None and len(runs) < _MAX_ORIGINS:
        runs.append(run)
        origin = continued_run(FineTuneSpec.model_validate(run.spec))
        if origin is None:
            break
        run_id = origin.run_id
    return runs


def _rows(session: Session, spec: FineTuneSpec) -> int:
    ids = [source.id for source in spec.sources]
    query = select(func.sum(Dataset.rows)).where(col(Dataset.id).in_(ids))
    return int(session.exec(query).one() or 0)


def _trained(storage: Storage, run: Run) -> set[str]:
    """The source keys of the rows that a run learned from."""
    spec = FineTuneSpec.model_validate(run.spec)
    records = [
        record
        for source in spec.sources
        for record in read_records(storage.dataset_records(source.id))
    ]
    keys = {record.source_key for record in records}
    if spec.validation_dataset_id is not None:
        return keys
    return keys - held_out_sources(records, share=spec.validation_split, seed=spec.seed)
