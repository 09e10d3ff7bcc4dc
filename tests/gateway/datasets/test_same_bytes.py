"""The same bytes twice are one file on the disk (C27), and each dataset lives on alone."""

from pathlib import Path
from typing import Any

import pytest

from gateway.database import Database
from gateway.datasets import store
from gateway.tables import Dataset
from shared.storage import Storage, manifest_problem, sha256_of

CSV = b"text,target,note\na,b,c\n"


@pytest.fixture
def create(database: Database, storage: Storage, tmp_path: Path) -> Any:
    def run(content: bytes = CSV, **fields: Any) -> Dataset:
        # An upload lies among the temporary files.
        source = storage.temporary() / "upload-x"
        source.write_bytes(content)
        options = {"owner": "me", "filename": "mine.csv", "name": "pairs"} | fields
        made = store.create_dataset(database=database, storage=storage, source=source, **options)
        source.unlink()
        return made

    return run


def inodes(storage: Storage, *made: Dataset) -> tuple[int, int]:
    """How many files there are of the sources, and of the records."""
    sources = {storage.dataset_source(one.id).stat().st_ino for one in made}
    records = {storage.dataset_records(one.id).stat().st_ino for one in made}
    return len(sources), len(records)


def test_one_file_for_both_and_a_word_about_it(create: Any, storage: Storage) -> None:
    first, second = create(), create()
    assert second.version == 2
    assert "These are the same bytes as pairs v1." in second.warnings
    assert not any("same bytes" in warning for warning in first.warnings)
    assert inodes(storage, first, second) == (1, 1)
    assert manifest_problem(storage.dataset(second.id)) is None


def test_other_records_of_the_same_bytes_are_their_own(create: Any, storage: Storage) -> None:
    first, second = create(), create(text_column="text", target_column="note")
    assert inodes(storage, first, second) == (1, 2)


def test_other_names_share_and_other_owners_do_not(create: Any, storage: Storage) -> None:
    first, second, third = create(), create(name="other"), create(owner="you")
    assert inodes(storage, first, second) == (1, 1)
    assert inodes(storage, first, third) == (2, 2)
    assert not any("same bytes" in warning for warning in third.warnings)


def test_deleting_one_leaves_the_other(create: Any, database: Database, storage: Storage) -> None:
    first, second = create(), create()
    with storage.dataset_source(first.id).open("rb") as reading:
        store.delete_dataset(database=database, storage=storage, owner="me", dataset_id=first.id)
        # Who reads it reads on to its end.
        assert reading.read() == CSV
    assert storage.dataset_source(second.id).read_bytes() == CSV
    assert sha256_of(storage.dataset_records(second.id)) == second.records_sha256
    # A deleted one is no longer named, nor linked to.
    assert "These are the same bytes as pairs v2." in create().warnings


def test_a_damaged_file_is_not_shared(create: Any, storage: Storage) -> None:
    first = create()
    storage.dataset_source(first.id).write_bytes(b"damaged")
    second = create()
    assert storage.dataset_source(second.id).read_bytes() == CSV
    assert inodes(storage, first, second) == (2, 1)


def test_a_file_of_ones_own_is_copied(database: Database, storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "mine.csv"
    source.write_bytes(CSV)
    made = store.create_dataset(
        database=database, storage=storage, source=source, owner="me", filename="a.csv", name="x"
    )
    source.write_bytes(b"changed later")
    assert storage.dataset_source(made.id).read_bytes() == CSV
