"""Folders of datasets in their place before a row knows them: noted, so that a gateway that dies
in between leaves none behind. What was never noted here may be another database's: it stays."""

import logging
from datetime import timedelta

from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.tables import PlacedDataset, now
from shared.errors import Conflict
from shared.storage import Storage, remove, set_aside

log = logging.getLogger(__name__)

ORPHAN_SECONDS = 3600.0
MAX_AT_ONCE = 100


def note_placing(database: Database, dataset_id: str) -> None:
    """To be called before the dataset's folder is put in its place."""
    with database.write() as session:
        session.add(PlacedDataset(dataset_id=dataset_id))


def settle_placing(session: Session, dataset_id: str) -> None:
    """To be called in the transaction that writes the dataset's row. Conflict where that comes so
    late that the folder was removed."""
    noted = session.get(PlacedDataset, dataset_id, with_for_update=True)
    if noted is None:
        raise Conflict("The dataset took too long to be stored. Nothing was kept: send it again.")
    session.delete(noted)


def remove_orphans(
    database: Database, storage: Storage, *, older_than: float = ORPHAN_SECONDS
) -> None:
    """Remove the folders that were noted so many seconds ago and still have no row."""
    limit = now() - timedelta(seconds=older_than)
    query = select(PlacedDataset.dataset_id).where(col(PlacedDataset.created_at) < limit)
    with database.read() as session:
        orphans = session.exec(query.limit(MAX_AT_ONCE)).all()
    for dataset_id in orphans:
        with database.write() as session:
            noted = session.get(PlacedDataset, dataset_id, with_for_update=True)
            if noted is None:
                continue
            session.delete(noted)
            session.flush()
            aside = set_aside(storage.dataset(dataset_id))
        if aside is not None:
            log.info("Removing the left-over dataset %s.", dataset_id)
        remove(aside)
