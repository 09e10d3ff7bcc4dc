"""Bytes that were uploaded before are kept once: a new version's files are links to the older's."""

import contextlib
import os
import shutil
from pathlib import Path

from sqlmodel import col, select

from gateway.database import Database
from gateway.tables import Dataset
from shared.storage import Storage, sha256_of


def share_files(
    *, database: Database, storage: Storage, dataset: Dataset, folder: Path
) -> Dataset | None:
    """Let files in ``folder`` that the owner's newest dataset of the same bytes has too be links
    to that one's. The other dataset, or None where there is none."""
    query = select(Dataset).where(
        Dataset.owner == dataset.owner,
        Dataset.sha256 == dataset.sha256,
        col(Dataset.deleted_at).is_(None),
    )
    with database.read() as session:
        found = session.exec(query.order_by(col(Dataset.created_at).desc())).first()
    if found is None:
        return None
    _link(storage.dataset_source(found.id), folder / "source", dataset.sha256)
    if found.records_sha256 == dataset.records_sha256:
        _link(storage.dataset_records(found.id), folder / "records.jsonl", dataset.records_sha256)
    return found


def _link(older: Path, path: Path, sha256: str) -> None:
    """Put a link in the place of ``path``. Where that cannot be (the older file is deleted at this
    moment, or was damaged; the disk knows no links), the own copy stays."""
    link = path.with_name(f".{path.name}")
    with contextlib.suppress(OSError):
        if sha256_of(older) != sha256:
            return
        os.link(older, link)
        os.replace(link, path)


def place_file(source: Path, target: Path, storage: Storage) -> None:
    """What was uploaded is linked, so that it stays where it was until its owner removes it; what
    belongs to somebody else is copied."""
    if source.resolve().is_relative_to(storage.root / "tmp"):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
