"""Files of batches go when their time is over, and not before."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import select

from gateway.batches import files
from gateway.database import Database
from gateway.tables import Batch, BatchFile, now
from shared.errors import TooLarge
from shared.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "data")


def keep(database: Database, storage: Storage, **changes: object) -> BatchFile:
    source = storage.temporary() / "upload"
    source.write_bytes(b"{}\n")
    file = files.keep_input(
        database=database, storage=storage, owner="me", source=source, filename="a/b.jsonl"
    )
    assert not source.exists() and storage.file(file.id).read_bytes() == b"{}\n"
    with database.write() as session:
        row = session.get_one(BatchFile, file.id)
        assert (row.filename, row.bytes, row.purpose) == ("b.jsonl", 3, files.BATCH)
        for name, value in changes.items():
            setattr(row, name, value)
    return file


def left(database: Database, storage: Storage) -> set[str]:
    """Those of which both the row and the bytes are there."""
    files.remove_expired(database, storage)
    with database.read() as session:
        rows = {file.id for file in session.exec(select(BatchFile))}
    assert rows == {path.name for path in (storage.root / "files").iterdir()}
    return rows


def test_what_is_over_goes_and_the_rest_stays(database: Database, storage: Storage) -> None:
    past, later = now() - timedelta(seconds=1), now() + timedelta(hours=1)
    keep(database, storage, expires_at=past)
    stay = {keep(database, storage, expires_at=time).id for time in (None, later)}
    # Left by a gateway that died before it could say what it is.
    keep(database, storage, expires_at=past, purpose="")
    assert left(database, storage) == stay


def test_what_a_batch_works_on_stays_until_its_end(database: Database, storage: Storage) -> None:
    file = keep(database, storage, expires_at=now() - timedelta(seconds=1))
    with database.write() as session:
        batch = Batch(owner="me", endpoint="e", input_file_id=file.id, expires_at=now())
        session.add(batch)
    assert left(database, storage) == {file.id}
    with database.write() as session:
        session.get_one(Batch, batch.id).status = "completed"
    assert left(database, storage) == set()


def test_too_large_a_file_leaves_nothing(
    database: Database, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 2)
    with pytest.raises(TooLarge, match="Split it"):
        keep(database, storage)
    with database.read() as session:
        assert session.exec(select(BatchFile)).all() == []
