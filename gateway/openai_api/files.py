"""Datasets, the results of runs and the files of batches as OpenAI's files. Knows no HTTP.

A file with the purpose ``fine-tune`` is a dataset. The results of a run that succeeded are a CSV
file, which is made of its metrics whenever it is read.
"""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import PurePath
from typing import Any, Literal

from sqlalchemy import ColumnElement, Subquery, and_, or_, select, union_all
from sqlmodel import Session, col
from sqlmodel import select as select_rows

from gateway.batches import files as batch_files
from gateway.database import Database
from gateway.datasets import store
from gateway.openai_api import ids
from gateway.paging import Page
from gateway.tables import BatchFile, Dataset, MetricRow, Run, now
from shared.errors import Forbidden, InvalidRequest, NotFound
from shared.storage import Storage

Order = Literal["asc", "desc"]
FINE_TUNE, RESULTS = "fine-tune", "fine-tune-results"
BATCH, BATCH_OUTPUT = batch_files.BATCH, batch_files.OUTPUT
PURPOSES = (FINE_TUNE, RESULTS, BATCH, BATCH_OUTPUT)
# OpenAI's other purposes, and why they are refused.
_UNSUPPORTED = {
    "assistants": "There are no assistants here.",
    "vision": "Images cannot be learned here.",
    "user_data": "Files cannot be attached to requests here.",
    "evals": "There are no evals here.",
}
_EXPIRES = {f"expires_after[{key}]": key for key in ("anchor", "seconds")}
MAX_LISTED = 10_000
RESULT_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


@dataclass(frozen=True)
class File:
    """One of OpenAI's files; ``stored_id`` is the dataset, the run or the batch's file behind
    it."""

    stored_id: str
    filename: str
    purpose: str
    bytes: int
    created_at: datetime
    expires_at: datetime | None = None

    @property
    def id(self) -> str:
        return ids.file_id(self.stored_id)


def check_form(fields: dict[str, str]) -> int | None:
    """The life in seconds that an upload's form asks for. Raises where it asks for what cannot be
    done."""
    purpose = fields.get("purpose", "")
    if purpose not in (FINE_TUNE, BATCH):
        why = _UNSUPPORTED.get(purpose, f"There is no purpose {purpose[:40]!r}." if purpose else "")
        raise InvalidRequest(
            f"{why} Send purpose=fine-tune with a file to learn from, or purpose=batch with a "
            "file of requests.".strip(),
            param="purpose",
        )
    unknown = sorted(fields.keys() - {"purpose", "sha256"} - _EXPIRES.keys())
    if unknown:
        raise InvalidRequest(f"Unknown field {unknown[0][:40]!r}.", param=unknown[0][:40])
    given = {key: fields[name] for name, key in _EXPIRES.items() if name in fields}
    if not given:
        return None
    if purpose == FINE_TUNE:
        raise InvalidRequest(
            "Datasets do not expire here: leave expires_after out, and delete the file when you "
            "need it no more.",
            param="expires_after",
        )
    return batch_files.check_expiry(
        given.get("anchor"), given.get("seconds"), param="expires_after"
    )


def dataset_name(filename: str) -> str:
    """The name under which an uploaded file becomes a dataset; a repeat is its next version."""
    return PurePath(store.clean_filename(filename)).stem[: store.MAX_NAME].strip() or "dataset"


def get_file(*, database: Database, owner: str, file_id: str) -> File:
    found = _load(database, owner, [ids.stored_id(file_id)])
    if not found:
        raise ids.no_file(file_id)
    return found[0]


def list_files(
    *,
    database: Database,
    owner: str,
    purpose: str | None = None,
    purposes: Collection[str] = PURPOSES,
    order: Order = "desc",
    after: str | None = None,
    limit: int = MAX_LISTED,
) -> Page[File]:
    """The files that follow ``after``, by creation time; ties broken by their ids. ``purposes``:
    those that may be seen."""
    files = _files_table(owner, [one for one in purposes if purpose in (None, one)])
    if files is None:
        return Page([], has_more=False)
    keys = (files.c.created_at, files.c.id)
    query = select(files.c.id)
    if after is not None:
        query = query.where(_behind(database, files, after, order))
    directed = [key.asc() if order == "asc" else key.desc() for key in keys]
    with database.read() as session:
        found = session.execute(query.order_by(*directed).limit(limit + 1)).scalars().all()
    return Page(_load(database, owner, found[:limit]), has_more=len(found) > limit)


def _files_table(owner: str, purposes: Collection[str]) -> Subquery | None:
    """Creation time and stored id of every file; None where no file can have these purposes."""
    finished: Any = col(Run.finished_at)
    kinds = {
        FINE_TUNE: select(col(Dataset.created_at), col(Dataset.id)).where(
            col(Dataset.owner) == owner, col(Dataset.deleted_at).is_(None)
        ),
        RESULTS: select(finished.label("created_at"), col(Run.id)).where(
            col(Run.owner) == owner, col(Run.status) == "succeeded", finished.is_not(None)
        ),
    }
    for purpose in (BATCH, BATCH_OUTPUT):
        kinds[purpose] = select(col(BatchFile.created_at), col(BatchFile.id)).where(
            col(BatchFile.owner) == owner, col(BatchFile.purpose) == purpose, _unexpired()
        )
    chosen = [kinds[purpose] for purpose in purposes]
    return union_all(*chosen).subquery() if chosen else None


def _unexpired() -> ColumnElement[bool]:
    ends = col(BatchFile.expires_at)
    return or_(ends.is_(None), ends > now())


def _behind(database: Database, files: Subquery, after: str, order: Order) -> ColumnElement[bool]:
    with database.read() as session:
        try:
            query = select(files.c.created_at, files.c.id)
            cursor = session.execute(query.where(files.c.id == ids.stored_id(after))).one_or_none()
        except NotFound:
            cursor = None
    if cursor is None:
        raise ids.unknown_cursor(after)
    time, key = cursor
    if order == "asc":
        further, tied = files.c.created_at > time, files.c.id > key
    else:
        further, tied = files.c.created_at < time, files.c.id < key
    return or_(further, and_(files.c.created_at == time, tied))


def _load(database: Database, owner: str, stored: Sequence[str]) -> list[File]:
    """The files behind these ids, in their order; what is not ``owner``'s is left out."""
    runs = [one for one in stored if one.startswith(ids.RUN)]
    with database.read() as session:
        datasets = session.exec(
            select_rows(Dataset).where(
                col(Dataset.id).in_(stored),
                Dataset.owner == owner,
                col(Dataset.deleted_at).is_(None),
            )
        ).all()
        succeeded = session.exec(
            select_rows(Run).where(
                col(Run.id).in_(runs), Run.owner == owner, Run.status == "succeeded"
            )
        ).all()
        sizes = _result_sizes(session, [run.id for run in succeeded])
        kept = session.exec(
            select_rows(BatchFile).where(
                col(BatchFile.id).in_([one for one in stored if _is_batch_file(one)]),
                BatchFile.owner == owner,
                BatchFile.purpose != "",
                _unexpired(),
            )
        ).all()
    found = {dataset.id: _data_file(dataset) for dataset in datasets}
    found |= {run.id: _result_file(run, sizes[run.id]) for run in succeeded}
    found |= {file.id: _batch_file(file) for file in kept}
    return [found[one] for one in stored if one in found]


def _is_batch_file(stored_id: str) -> bool:
    return stored_id.startswith(ids.BATCH_FILE)


def _batch_file(file: BatchFile) -> File:
    return File(file.id, file.filename, file.purpose, file.bytes, file.created_at, file.expires_at)


def _data_file(dataset: Dataset) -> File:
    return File(dataset.id, dataset.filename, FINE_TUNE, dataset.bytes, dataset.created_at)


def _result_file(run: Run, size: int) -> File:
    made = run.finished_at or run.created_at
    return File(run.id, f"{ids.job_id(run.id)}_results.csv", RESULTS, size, made)


def _result_sizes(session: Session, runs: Sequence[str]) -> dict[str, int]:
    query = select_rows(MetricRow).where(col(MetricRow.run_id).in_(runs))
    rows = session.exec(query.order_by(col(MetricRow.run_id), col(MetricRow.step)))
    sizes = dict.fromkeys(runs, len(result_csv([])))
    for run, its_rows in groupby(rows, lambda row: row.run_id):
        sizes[run] = len(result_csv(its_rows))
    return sizes


def result_csv(rows: Iterable[MetricRow]) -> bytes:
    """The result file: a line each optimizer step, empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RESULT_COLUMNS)
    for row in rows:
        values: tuple[Any, ...] = (
            row.loss,
            row.mean_token_accuracy,
            row.eval_loss,
            row.eval_mean_token_accuracy,
        )
        writer.writerow([row.step, *("" if value is None else value for value in values)])
    return text.getvalue().encode()


def delete_file(*, database: Database, storage: Storage, owner: str, file_id: str) -> None:
    """Delete the dataset, or the file of a batch."""
    file = get_file(database=database, owner=owner, file_id=file_id)
    if _is_batch_file(file.stored_id):
        batch_files.delete(
            database=database, storage=storage, owner=owner, stored_id=file.stored_id
        )
        return
    if file.purpose == RESULTS:
        raise Forbidden(
            "This file holds the results of a job, and goes with it: delete its fine-tuned model.",
            param="file_id",
        )
    store.delete_dataset(database=database, storage=storage, owner=owner, dataset_id=file.stored_id)
