"""Files of lines that outlive a kill at any byte."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import CommandFailed
from gateway.line_files import LineFile, changed, locked


def read(path: Path) -> tuple[list[dict[str, str]], int]:
    with locked(path, "taken") as descriptor:
        file = LineFile(path, descriptor)
        found = [json.loads(line) for line in file.lines()]
        file.cut(file.size)
        return found, file.size


@given(st.lists(st.text(), min_size=1, max_size=6), st.data())
def test_what_was_torn_is_gone_and_the_rest_goes_on(texts: list[str], data: st.DataObject) -> None:
    entries = [{"text": text} for text in texts]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "new" / "lines"
        with locked(path, "taken") as descriptor:
            places = LineFile(path, descriptor).append(*entries)
        size = path.stat().st_size
        cut = data.draw(st.integers(0, size))
        os.truncate(path, cut)
        whole = sum(end <= cut for end in [*places[1:], size])
        assert read(path) == (entries[:whole], [*places, size][whole])
        with locked(path, "taken") as descriptor:
            file = LineFile(path, descriptor)
            assert len(list(file.lines())) == whole
            (place,) = file.append({"text": "more"})
            assert json.loads(file.line_at(place)) == {"text": "more"}
        assert read(path)[0] == [*entries[:whole], {"text": "more"}]


def test_it_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with locked(path, "taken"), pytest.raises(CommandFailed, match="taken"), locked(path, "taken"):
        pass
    read(path)


def test_what_differs_is_named() -> None:
    assert changed({"a": 1, "b": 2}, {"b": 3, "c": 4}) == ["a", "b", "c"]
    assert changed({"a": 1}, {"a": 1}) == []
