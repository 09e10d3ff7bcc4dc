"""Tests of gateway.datasets.store on both databases."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.database import Database
from gateway.datasets import store
from gateway.tables import Dataset, Run
from shared.errors import Conflict, InvalidData, NotFound
from shared.storage import Storage, manifest_problem, sha256_of

CSV = b"text,target\na,b\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_bytes(CSV)
    return path


def create(database: Database, storage: Storage, source: Path, **fields: Any) -> Dataset:
    options = {"owner": "me", "filename": "mine.csv", "name": "pairs"} | fields
    return store.create_dataset(database=database, storage=storage, source=source, **options)


def files(storage: Storage) -> list[Path]:
    return [path for path in (storage.root / "datasets").rglob("*") if path.is_file()]


def test_a_dataset_is_whole_on_disk(
    either_database: Database, storage: Storage, source: Path
) -> None:
    made = create(either_database, storage, source, description="  Some pairs.\r\nTwo lines. ")
    found = store.get_dataset(database=either_database, owner="me", dataset_id=made.id)
    assert found.model_dump() == made.model_dump()
    assert (found.rows, found.bytes, found.version) == (1, len(CSV), 1)
    assert found.description == "Some pairs.\nTwo lines."
    assert storage.dataset_source(made.id).read_bytes() == CSV == source.read_bytes()
    assert sha256_of(storage.dataset_source(made.id)) == found.sha256
    assert sha256_of(storage.dataset_records(made.id)) == found.records_sha256
    assert manifest_problem(storage.dataset(made.id)) is None


def test_a_wrong_file_leaves_nothing(database: Database, storage: Storage, source: Path) -> None:
    source.write_bytes(b"text,target\na\n")
    with pytest.raises(InvalidData):
        create(database, storage, source)
    assert files(storage) == []
    assert store.list_datasets(database=database, owner="me").data == []


def test_a_database_that_refuses_leaves_nothing(
    database: Database, storage: Storage, source: Path
) -> None:
    with database.write() as session:
        session.connection().exec_driver_sql("DROP TABLE datasets")
    with pytest.raises(Exception, match="no such table"):
        create(database, storage, source)
    assert files(storage) == []


def test_versions_count_up_by_name_and_owner(
    either_database: Database, storage: Storage, source: Path
) -> None:
    versions = [
        create(either_database, storage, source, **fields).version
        for fields in ({}, {}, {"name": "other"}, {"owner": "you"}, {"name": " pairs "})
    ]
    assert versions == [1, 2, 1, 1, 3]


def test_uploads_at_the_same_time_get_versions_of_their_own(
    either_database: Database, storage: Storage, source: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: create(either_database, storage, source), range(4)))
    assert sorted(dataset.version for dataset in made) == [1, 2, 3, 4]


def test_a_deleted_version_is_not_given_again(
    database: Database, storage: Storage, source: Path
) -> None:
    made = create(database, storage, source)
    store.delete_dataset(database=database, storage=storage, owner="me", dataset_id=made.id)
    assert files(storage) == []
    with pytest.raises(NotFound):
        store.get_dataset(database=database, owner="me", dataset_id=made.id)
    with pytest.raises(NotFound):
        store.delete_dataset(database=database, storage=storage, owner="me", dataset_id=made.id)
    assert create(database, storage, source).version == 2


@pytest.mark.parametrize("status", ["queued", "running", "paused", "validating_files"])
@pytest.mark.parametrize("role", ["training", "validation"])
def test_a_live_run_keeps_its_data(
    database: Database, storage: Storage, source: Path, status: str, role: str
) -> None:
    made, other = (create(database, storage, source) for _ in range(2))
    run = Run(owner="me", base_model="m", dataset_id=made.id, status=status)
    if role == "validation":
        run.dataset_id, run.spec = other.id, {"validation_dataset_id": made.id}
    with database.write() as session:
        session.add(run)
    with pytest.raises(Conflict) as refused:
        store.delete_dataset(database=database, storage=storage, owner="me", dataset_id=made.id)
    assert refused.value.code == "dataset_in_use"
    assert storage.dataset_source(made.id).is_file()


def test_a_run_that_is_being_made_keeps_its_data(
    either_database: Database, storage: Storage, source: Path
) -> None:
    made = create(either_database, storage, source)
    with ThreadPoolExecutor(1) as pool:
        with either_database.write() as session:
            session.get(Dataset, made.id, with_for_update=True)
            deletion = pool.submit(
                store.delete_dataset,
                database=either_database,
                storage=storage,
                owner="me",
                dataset_id=made.id,
            )
            # It waits for this transaction, and sees what it wrote.
            with pytest.raises(TimeoutError):
                deletion.result(timeout=0.5)
            session.add(Run(owner="me", base_model="m", dataset_id=made.id, status="queued"))
        with pytest.raises(Conflict):
            deletion.result()
    assert storage.dataset_source(made.id).is_file()


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_run_that_ended_lets_go(
    either_database: Database, storage: Storage, source: Path, status: str
) -> None:
    made = create(either_database, storage, source)
    run = Run(owner="me", base_model="m", dataset_id=made.id, status=status)
    with either_database.write() as session:
        session.add(run)
    store.delete_dataset(database=either_database, storage=storage, owner="me", dataset_id=made.id)
    with either_database.read() as session:
        assert session.get_one(Run, run.id).dataset_id == made.id


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\0b", "\x1b[31m", "\u202ex"])
def test_odd_names_are_refused(
    database: Database, storage: Storage, source: Path, name: str
) -> None:
    with pytest.raises(InvalidData) as refused:
        create(database, storage, source, name=name)
    assert refused.value.param == "name"


def test_names_are_kept_as_one_form_of_unicode(
    database: Database, storage: Storage, source: Path
) -> None:
    assert create(database, storage, source, name="Cafe\u0301").name == "Caf\u00e9"
    assert create(database, storage, source, name="Caf\u00e9").version == 2


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.csv", "a.csv"), ("../../etc/x.csv", "x.csv"), ("C:\\data\\x.csv", "x.csv"),
        ("CON", "CON"), ("", "dataset"), ("..", "dataset"), ("/", "dataset"),
        ("a\r\nb\0.csv", "ab.csv"), ("x" * 300 + ".csv", "x" * 150 + ".csv"),
        ("\u202egnp.csv", "gnp.csv"), ("Cafe\u0301.csv", "Caf\u00e9.csv"),
    ],
)  # fmt: skip
def test_file_names(given: str, kept: str) -> None:
    assert store.clean_filename(given) == kept


def test_a_description_has_a_limit(database: Database, storage: Storage, source: Path) -> None:
    for description in ("x" * 2001, "a\0b"):
        with pytest.raises(InvalidData) as refused:
            create(database, storage, source, description=description)
        assert refused.value.param == "description"


def test_pages_of_a_list(either_database: Database, storage: Storage, source: Path) -> None:
    made = [create(either_database, storage, source).id for _ in range(5)]
    seen: list[str] = []
    after = None
    while True:
        page = store.list_datasets(database=either_database, owner="me", after=after, limit=2)
        seen += [dataset.id for dataset in page.data]
        after = seen[-1]
        if not page.has_more:
            break
    assert seen == made[::-1]
