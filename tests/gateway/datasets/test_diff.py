"""What changed between two datasets, in counts that agree with both."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.datasets.diff import Diff, diff_datasets
from gateway.tables import Dataset
from shared.datasets import Record
from shared.errors import NotFound
from shared.storage import Storage

Pairs = list[tuple[str, str]]


def dataset(storage: Storage, pairs: Pairs, columns: str) -> Dataset:
    made = Dataset(
        owner="me", name="x", filename="a.csv", file_type="csv", format="text/target",
        rows=len(pairs), bytes=1, sha256="a", records_sha256="b", columns=columns.split(),
    )  # fmt: skip
    path = storage.dataset_records(made.id)
    path.parent.mkdir(parents=True)
    with path.open("w") as out:
        for prompt, completion in pairs:
            record = Record.from_pair(prompt, completion)
            out.write(record.model_dump_json(exclude_none=True) + "\n")
    return made


def compared(storage: Storage, before: Pairs, after: Pairs) -> Diff:
    return diff_datasets(
        storage=storage,
        before=dataset(storage, before, "text target id"),
        after=dataset(storage, after, "text target topic"),
    )


def counts(diff: Diff) -> tuple[int, int, int, int]:
    return diff.added, diff.removed, diff.unchanged, diff.changed


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([("a", "1"), ("b", "2")], [("a", "1"), ("b", "2")], (0, 0, 2, 0)),
        ([("a", "1"), ("b", "2")], [("b", "2"), ("c", "3")], (1, 1, 1, 0)),
        ([("a", "1")], [("a", "2")], (0, 0, 0, 1)),
        ([("a", "1"), ("a", "2")], [("a", "1"), ("a", "3"), ("a", "4")], (1, 0, 1, 1)),
        # Equal rows count as often as they are there.
        ([("a", "1")] * 3, [("a", "1")], (0, 2, 1, 0)),
        ([("a", "1")], [("a", "1")] * 3, (2, 0, 1, 0)),
    ],
)
def test_counts(
    storage: Storage, before: Pairs, after: Pairs, expected: tuple[int, int, int, int]
) -> None:
    assert counts(compared(storage, before, after)) == expected


def test_lengths_and_columns(storage: Storage) -> None:
    diff = compared(storage, [("ab", "cd"), ("e", "f")], [("abc", "def")])
    assert (diff.before.rows, diff.before.mean_characters) == (2, 3.0)
    assert (diff.before.longest_characters, diff.after.longest_characters) == (4, 6)
    assert (diff.columns_added, diff.columns_removed) == (["topic"], ["id"])
    assert list(storage.temporary().iterdir()) == []


pairs = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12")), max_size=12)


@given(before=pairs, after=pairs)
@settings(max_examples=60, deadline=None)
def test_the_counts_add_up_to_both(
    tmp_path_factory: pytest.TempPathFactory, before: Pairs, after: Pairs
) -> None:
    storage = Storage(tmp_path_factory.mktemp("data"))
    diff = compared(storage, before, after)
    assert diff.unchanged == (Counter(before) & Counter(after)).total()
    assert diff.unchanged + diff.changed + diff.removed == len(before)
    assert diff.unchanged + diff.changed + diff.added == len(after)
    # Whatever is left over has a source that the other side lacks a row of.
    sources = Counter(source for source, _ in before) & Counter(source for source, _ in after)
    assert diff.unchanged + diff.changed == sources.total()


def test_a_deleted_dataset_is_not_found(storage: Storage) -> None:
    made = dataset(storage, [("a", "1")], "text target")
    gone = dataset(storage, [("a", "1")], "text target")
    storage.dataset_records(gone.id).unlink()
    with pytest.raises(NotFound):
        diff_datasets(storage=storage, before=made, after=gone)


def test_many_rows_are_counted(storage: Storage) -> None:
    made = dataset(storage, [], "text")
    other = dataset(storage, [], "text")
    for number, kept in enumerate((made, other)):
        with storage.dataset_records(kept.id).open("w") as out:
            for row in range(20_000):
                messages = [{"role": "user", "content": f"{row + 5000 * number}"}]
                messages.append({"role": "assistant", "content": "x"})
                out.write(json.dumps({"messages": messages}) + "\n")
    assert counts(diff_datasets(storage=storage, before=made, after=other)) == (
        5000, 5000, 15_000, 0,
    )  # fmt: skip
