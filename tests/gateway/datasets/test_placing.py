"""Folders of datasets that a dying gateway left behind, on both databases."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import select

from gateway.database import Database
from gateway.datasets import store
from gateway.datasets.placing import note_placing, remove_orphans
from gateway.tables import Dataset, PlacedDataset, now
from shared.errors import Conflict
from shared.storage import Storage, manifest_problem

PROGRAM = """
import sys
from pathlib import Path
from gateway.database import Database, make_engine
from gateway.datasets import store
from shared.storage import Storage
store.create_dataset(
    database=Database(make_engine(sys.argv[1])), storage=Storage(Path(sys.argv[2])), owner="me",
    source=Path(sys.argv[3]), filename="a.csv", name="pairs",
)
"""


def noted(database: Database) -> list[str]:
    with database.read() as session:
        return [row.dataset_id for row in session.exec(select(PlacedDataset)).all()]


def make_old(database: Database, dataset_id: str) -> None:
    with database.write() as session:
        session.get_one(PlacedDataset, dataset_id).created_at = now() - timedelta(hours=2)


def create(database: Database, storage: Storage, source: Path) -> Dataset:
    return store.create_dataset(
        database=database,
        storage=storage,
        owner="me",
        source=source,
        filename="a.csv",
        name="pairs",
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,target\na,b\n")
    return path


def killed_in_between(database: Database, storage: Storage, source: Path, folder: Path) -> Path:
    """A dataset's folder, after a process was killed that had just put it in its place."""
    stages = folder / "stages"
    stages.mkdir()
    (stages / "dataset_placed").write_text("kill")
    url = database.engine.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, str(storage.root), str(source)],
        env={**os.environ, "TESTING": "1", "CHAOS_STAGE": str(stages)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    (orphan,) = (storage.root / "datasets").iterdir()
    assert manifest_problem(orphan) is None
    return orphan


def test_a_folder_without_a_row_goes_when_it_is_old(
    either_database: Database, storage: Storage, source: Path, tmp_path: Path
) -> None:
    orphan = killed_in_between(either_database, storage, source, tmp_path)
    kept = create(either_database, storage, source)
    assert noted(either_database) == [orphan.name]
    remove_orphans(either_database, storage)
    assert orphan.is_dir()
    make_old(either_database, orphan.name)
    remove_orphans(either_database, storage)
    assert [path.name for path in orphan.parent.iterdir()] == [kept.id]
    assert noted(either_database) == []
    remove_orphans(either_database, storage, older_than=0)
    assert manifest_problem(storage.dataset(kept.id)) is None


def test_what_was_never_noted_stays_however_old_it_is(
    database: Database, storage: Storage, source: Path
) -> None:
    """It may be another database's."""
    folder = storage.dataset("ds_unknown")
    folder.mkdir(parents=True)
    os.utime(folder, (1, 1))
    remove_orphans(database, storage, older_than=0)
    assert folder.is_dir()


def test_a_note_without_a_folder_goes_too(database: Database, storage: Storage) -> None:
    note_placing(database, "ds_never")
    remove_orphans(database, storage, older_than=0)
    assert noted(database) == []


def test_whoever_comes_after_the_sweep_is_told_so(
    either_database: Database, storage: Storage, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stood still for hours, just there."""

    def sweep(_name: str, _about: object = "") -> None:
        remove_orphans(either_database, storage, older_than=0)

    monkeypatch.setattr(store, "stage", sweep)
    with pytest.raises(Conflict, match="send it again"):
        create(either_database, storage, source)
    assert not list((storage.root / "datasets").iterdir())
    assert store.list_datasets(database=either_database, owner="me").data == []
