"""Whatever a file holds, it is told of by line, and what is right comes out as it went in."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.batches import checking
from gateway.batches.checking import check_input, requests

URL = "/v1/chat/completions"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "custom_id": st.sampled_from(["a", "b", ""]) | JSON,
        "method": st.sampled_from(["POST", "GET"]) | JSON,
        "url": st.just(URL) | JSON,
        "body": st.fixed_dictionaries({"model": st.sampled_from(["m", "n"]) | JSON}) | JSON,
    },
)
LINE = (ITEM | JSON).map(lambda item: json.dumps(item).encode()) | st.binary(max_size=30)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch") / "requests.jsonl"


@settings(deadline=None)
@given(lines=st.lists(LINE, max_size=6))
def test_no_file_is_a_surprise(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"\n".join(lines))
    found = check_input(path, URL)
    numbers = range(1, path.read_bytes().count(b"\n") + 2)
    assert all(error["line"] in (None, *numbers) and error["message"] for error in found.errors)
    json.dumps(found.errors).encode()
    if not found.errors:
        read = list(requests(path))
        assert len(read) == found.total > 0
        assert {request.body["model"] for request in read} == {found.model}
        assert len({request.custom_id for request in read}) == found.total


@settings(deadline=None)
@given(ids=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=9, unique=True))
def test_what_is_right_comes_out_as_it_went_in(path: Path, ids: list[str]) -> None:
    items: list[dict[str, Any]] = [
        {"custom_id": one, "method": "POST", "url": URL, "body": {"model": "m", "n": place}}
        for place, one in enumerate(ids)
    ]
    path.write_text("\n\n".join(json.dumps(item) for item in items))
    assert check_input(path, URL).errors == []
    assert [(one.custom_id, one.body) for one in requests(path)] == [
        (item["custom_id"], item["body"]) for item in items
    ]


def test_what_editors_add_is_no_fault(path: Path) -> None:
    items = [
        json.dumps({"custom_id": one, "method": "POST", "url": URL, "body": {"model": "ü"}})
        for one in ("a", "b", "c")
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(items).encode())
    assert check_input(path, URL).errors == []
    assert [(one.line, one.custom_id) for one in requests(path)] == [(1, "a"), (3, "b"), (5, "c")]


def test_what_was_answered_is_not_read_again(path: Path) -> None:
    item = json.dumps({"custom_id": "b", "body": {}})
    path.write_text(f"nonsense\n{item}\n")
    assert [one.custom_id for one in requests(path, without={1})] == ["b"]


def test_too_many_and_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "MAX_REQUESTS", 3)
    monkeypatch.setattr(checking, "MAX_LINE_BYTES", 200)
    path = tmp_path / "requests.jsonl"
    item = {"custom_id": "x", "method": "POST", "url": URL, "body": {"model": "m"}}
    items = [item | {"custom_id": str(number)} for number in range(5)]
    items[1]["body"] = {"model": "m", "said": "x" * 500}
    path.write_text("\n".join(json.dumps(item) for item in items))
    errors = [(error["code"], error["line"]) for error in check_input(path, URL).errors]
    assert errors == [("line_too_long", 2), ("too_many_requests", 4)]


def test_a_hundred_errors_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text("x\n" * 1000)
    found = check_input(path, URL)
    assert len(found.errors) == checking.MAX_ERRORS and found.total == checking.MAX_ERRORS
