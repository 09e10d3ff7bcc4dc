"""A journal outlives any end of its process: what is whole stays, what is torn goes."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.batch_inference.journal import open_journal
from gateway.client import CommandFailed

ROWS = 20
FACTS: dict[str, Any] = {"rows": ROWS, "model_id": "m", "model_sha": "ab", "task_prefix": ""}
TEXTS = st.text(alphabet=st.characters(), max_size=30)


def write(path: Path, entries: list[dict[str, Any]]) -> None:
    async def go() -> None:
        await asyncio.gather(*(journal.add(entry) for entry in entries))

    with open_journal(path, FACTS) as journal:
        asyncio.run(go())


def has(path: Path) -> set[int]:
    with open_journal(path, FACTS) as journal:
        found = {row for row in range(ROWS) if journal.has(row)}
        assert journal.done == len(found)
    return found


# (How long a disk takes says nothing.)
@settings(deadline=None)
@given(
    texts=st.lists(TEXTS, min_size=ROWS, max_size=ROWS),
    order=st.permutations(range(ROWS)),
    data=st.data(),
)
def test_cut_at_any_byte_it_goes_on_and_ends_whole(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], order: list[int], data: Any
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    write(path, [{"row": row, "text": texts[row]} for row in order])
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    complete = max(0, whole[:cut].count(b"\n") - 1)
    kept = has(path)
    assert kept == set(order[:complete])
    write(path, [{"row": row, "text": texts[row]} for row in range(ROWS) if row not in kept])
    with open_journal(path, FACTS) as journal:
        assert [entry["text"] for entry in journal.entries()] == texts
    lines = path.read_bytes().splitlines()
    assert len(lines) == 1 + ROWS
    assert sorted(json.loads(line)["row"] for line in lines[1:]) == list(range(ROWS))


def test_what_failed_may_be_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    entries = [{"row": row, "text": "yes"} for row in range(1, ROWS)]
    write(path, [{"row": 0, "error": {"code": "c", "message": "No."}}, *entries])
    with open_journal(path, FACTS) as journal:
        assert (journal.done, journal.failed) == (ROWS, 1)
        assert journal.has(0) and not journal.has(0, retry_failed=True)
        assert journal.has(1, retry_failed=True)
    write(path, [{"row": 0, "text": "at last"}])
    with open_journal(path, FACTS) as journal:
        assert (journal.done, journal.failed) == (ROWS, 0)
        assert next(journal.entries())["text"] == "at last"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": ROWS + 1}, "the number of rows"),
        ({"model_sha": "cd"}, "the model's weights"),
        ({"task_prefix": "x", "model_id": "n"}, "model, task_prefix"),
        ({"max_tokens": 5}, "max_tokens"),
    ],
)
def test_another_batch_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    path = tmp_path / "j"
    write(path, [{"row": 0, "text": "a"}])
    before = path.read_bytes()
    with (
        pytest.raises(CommandFailed, match=f"another batch: {said} changed"),
        open_journal(path, FACTS | changed),
    ):
        pass
    assert path.read_bytes() == before


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path / "j", FACTS),
        pytest.raises(CommandFailed, match="Another `genplat batch` works on"),
        open_journal(tmp_path / "j", FACTS),
    ):
        pass


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"row": 99}\n', b'{"row": -1}\n', b"[]\n"])
def test_a_line_that_was_damaged_is_left_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j"
    write(path, [{"row": 0, "text": "a"}])
    path.write_bytes(path.read_bytes() + line)
    write(path, [{"row": 1, "text": "b"}])
    with open_journal(path, FACTS) as journal:
        assert (journal.done, journal.damaged) == (2, 1)
    assert has(path) == {0, 1}


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j"
    write(path, [{"row": 0, "text": "a"}])
    real = os.write

    def half(descriptor: int, content: bytes) -> int:
        if len(content) < 100:
            raise OSError(28, "No space left on device")
        return real(descriptor, content[:50])

    with open_journal(path, FACTS) as journal:
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            asyncio.run(journal.add({"row": 1, "text": "b" * 120}))
        monkeypatch.undo()
        asyncio.run(journal.add({"row": 2, "text": "c"}))
    assert has(path) == {0, 2}
