"""Datasets: immutable versions of uploaded data, whole on disk before the database knows them."""

import os
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.datasets.canonical import Checked, check_file
from gateway.datasets.formats import Columns
from gateway.datasets.placing import note_placing, settle_placing
from gateway.datasets.same_bytes import place_file, share_files
from gateway.idempotency import Attached
from gateway.paging import Page, paginate
from gateway.tables import Dataset, Run, now
from shared.chaos import stage
from shared.errors import Conflict, InvalidData, NotFound
from shared.runs import TERMINAL
from shared.storage import Storage, atomic_directory, remove, set_aside, sha256_of

MAX_NAME = 100
MAX_DESCRIPTION = 2000
_VERSION_TRIES = 5
# Of a dataset before its file was read.
_UNREAD: dict[str, Any] = {
    "file_type": "",
    "format": "",
    "rows": 0,
    "bytes": 0,
    "sha256": "",
    "records_sha256": "",
}


def create_dataset(
    *,
    database: Database,
    storage: Storage,
    owner: str,
    source: Path,
    filename: str,
    name: str,
    description: str = "",
    text_column: str | None = None,
    target_column: str | None = None,
    system_column: str | None = None,
    skip_bad_rows: bool = False,
    imported_from: dict[str, Any] | None = None,
    derived_from: dict[str, Any] | None = None,
    claim: Attached | None = None,
) -> Dataset:
    """Check ``source`` completely and keep a copy of it, as the next version of ``name``.

    With ``skip_bad_rows``, rows that are wrong are left out and told of in the dataset.
    """
    dataset = Dataset(
        owner=owner,
        name=_check_name(name),
        description=_check_description(description),
        filename=clean_filename(filename),
        imported_from=imported_from,
        derived_from=derived_from,
        **_UNREAD,
    )
    try:
        with atomic_directory(storage.dataset(dataset.id)) as folder:
            place_file(source, folder / "source", storage)
            checked = check_file(
                folder / "source",
                folder / "records.jsonl",
                filename=filename,
                named=Columns(text_column or None, target_column or None, system_column or None),
                skip_bad_rows=skip_bad_rows,
            )
            _describe(dataset, folder, checked)
            _share(database, storage, dataset, folder)
            note_placing(database, dataset.id)
        stage("dataset_placed", dataset.id)
        return _insert(database, dataset, claim)
    except BaseException:
        shutil.rmtree(storage.dataset(dataset.id), ignore_errors=True)
        raise


def _check_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise InvalidData(
            f"name must be 1 to {MAX_NAME} visible characters on one line.", param="name"
        )
    return name


def _check_description(description: str) -> str:
    description = description.replace("\r\n", "\n").strip()
    if (
        len(description) > MAX_DESCRIPTION
        or not description.replace("\n", "").replace("\t", "").isprintable()
    ):
        raise InvalidData(
            f"description must be at most {MAX_DESCRIPTION} visible characters.",
            param="description",
        )
    return description


def clean_filename(filename: str) -> str:
    """The uploaded file's name as it may be shown and offered again; no path is made of it."""
    last = unicodedata.normalize("NFC", re.split(r"[\\/]", filename)[-1])
    last = "".join(char for char in last if char.isprintable()).strip(". ")
    stem, dot, suffix = last.rpartition(".")
    return (f"{stem[:150]}{dot}{suffix[:20]}" if stem else last[:150]) or "dataset"


def _describe(dataset: Dataset, folder: Path, checked: Checked) -> None:
    source = folder / "source"
    os.chmod(source, 0o600)
    dataset.file_type, dataset.format = checked.file_type, checked.format
    dataset.rows, dataset.columns = checked.rows, checked.columns
    dataset.mapping, dataset.warnings = dict(checked.mapping), checked.warnings
    dataset.skipped_rows, dataset.problems = checked.skipped_rows, checked.problems
    dataset.bytes, dataset.sha256 = source.stat().st_size, sha256_of(source)
    dataset.records_sha256 = sha256_of(folder / "records.jsonl")


def _share(database: Database, storage: Storage, dataset: Dataset, folder: Path) -> None:
    same = share_files(database=database, storage=storage, dataset=dataset, folder=folder)
    if same is not None:
        said = f"These are the same bytes as {same.name} v{same.version}."
        dataset.warnings = [*dataset.warnings, said]


def _insert(database: Database, dataset: Dataset, claim: Attached | None) -> Dataset:
    for last_try in [False] * (_VERSION_TRIES - 1) + [True]:
        try:
            with database.write() as session:
                dataset.version = _next_version(session, dataset)
                row = Dataset.model_validate(dataset.model_dump())
                session.add(row)
                settle_placing(session, row.id)
                if claim is not None:
                    claim.attach(session, row.id)
            return row
        except IntegrityError:
            # Another upload took this version; SQLite's write lock leaves no room for that.
            if last_try:
                raise
    raise AssertionError("unreachable")


def _next_version(session: Session, dataset: Dataset) -> int:
    query = select(func.max(Dataset.version)).where(
        Dataset.owner == dataset.owner, Dataset.name == dataset.name
    )
    return (session.exec(query).one() or 0) + 1


def list_datasets(
    *,
    database: Database,
    owner: str,
    name: str | None = None,
    after: str | None = None,
    limit: int = 20,
) -> Page[Dataset]:
    """Newest first; with ``name`` the versions of one dataset."""
    query = select(Dataset).where(Dataset.owner == owner, col(Dataset.deleted_at).is_(None))
    if name is not None:
        query = query.where(Dataset.name == unicodedata.normalize("NFC", name).strip())
    with database.read() as session:
        return paginate(
            session=session, query=query, table=Dataset, key=Dataset.id, after=after, limit=limit
        )


def get_dataset(*, database: Database, owner: str, dataset_id: str) -> Dataset:
    with database.read() as session:
        return _get(session, owner, dataset_id)


def _get(session: Session, owner: str, dataset_id: str, *, for_update: bool = False) -> Dataset:
    dataset = session.get(Dataset, dataset_id, with_for_update=for_update)
    if dataset is None or dataset.owner != owner or dataset.deleted_at is not None:
        raise NotFound(f"There is no dataset {dataset_id[:80]!r}.")
    return dataset


def delete_dataset(*, database: Database, storage: Storage, owner: str, dataset_id: str) -> None:
    """Remove the data. Runs that have ended keep their results; one that has not forbids it."""
    with database.write() as session:
        # Whoever makes a run locks its data too: none can begin between the look and the deletion.
        dataset = _get(session, owner, dataset_id, for_update=True)
        live = select(Run).where(col(Run.status).not_in(TERMINAL))
        for run in session.exec(live).all():
            several = (source["id"] for source in run.spec.get("datasets", ()))
            validation = run.spec.get("validation_dataset_id")
            if dataset_id in (run.dataset_id, validation, *several):
                raise Conflict(
                    f"The run {run.id} uses this dataset. Cancel the run or wait for its end.",
                    code="dataset_in_use",
                )
        dataset.deleted_at = now()
        session.add(dataset)
        session.flush()
        aside = set_aside(storage.dataset(dataset_id))
    remove(aside)
