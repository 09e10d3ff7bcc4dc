"""JSON documents: lists of rows, objects that hold one, and what is broken in them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.datasets.json_rows import json_rows
from gateway.datasets.problems import Problems
from shared.errors import InvalidData
from tests.gateway.datasets.checking import Check, assert_says

ROW = '{"prompt":"a","completion":"b"}'
PAIR = [("user", "a", False), ("assistant", "b", True)]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (f"[{ROW}]", 1),
        (f"\ufeff \n[\n  {ROW},\n  {ROW}\n]\n\n", 2),
        (f'{{"data": [{ROW},{ROW}]}}', 2),
        (f'{{"rows": [{ROW}], "count": 1}}', 1),
        (f'{{\n"version": "1.0", "columns": ["a", "b"], "empty": [],\n"train": [{ROW}]}}', 1),
        (f'{{\n"anything": [{ROW}],\n"n": 1.5e3}}', 1),
        ("[" + ",".join([ROW] * 5000) + "]", 5000),
        ("[" + f'{{"prompt":"{"é" * 100_000}","completion":"b"}},' * 3 + ROW + "]", 4),
        (json.dumps([{"prompt": "a", "completion": "b", "n": 1}] * 300, indent=4), 300),
    ],
)
def test_documents(check: Check, content: str, rows: int) -> None:
    checked = check(content.encode(), "x.json")
    assert (checked.file_type, checked.rows) == ("json", rows)


WRONG = {
    "empty list": ("[]", "empty_file", None),
    "no list": ('{\n"prompt": "a",\n"completion": "b"\n}', "not_an_object", None),
    "two lists": (f'{{\n"a": [{ROW}], "b": [{ROW}]}}', "bad_json", None),
    "cut off": (f"[{ROW},\n{ROW}", "bad_json", 2),
    "cut off inside": (f'[{ROW},\n\n{{"prompt": "a', "bad_json", 3),
    "no comma": (f"[{ROW}\n{ROW}]", "bad_json", 2),
    "comma too many": (f"[{ROW},\n]", "bad_json", 2),
    "more behind": (f"[{ROW}]\n{ROW}", "bad_json", 2),
    "deep": ("[" + '{"a":' * 100_000, "bad_json", 1),
    "too many digits": (f'[{{"a":{"9" * 5000}}}]', "bad_json", 1),
    "a row too long": (f'[{{"prompt":"{"x" * 2_000_000}"}}]', "line_too_long", 1),
    "not UTF-8": (b'[\n{"prompt":"\xff"}]', "not_utf8", 2),
    "other keys": ('[{"a":"b"}]', "missing_column", None),
    # Rows have their number.
    "no object": (f"[{ROW}, 7]", "not_an_object", 2),
    "a key twice": (f'[{ROW},\n\n{{"prompt":"a","prompt":"b"}}]', "duplicate_key", 2),
    "NaN": (f'[{ROW},{ROW},{{"prompt":NaN,"completion":"b"}}]', "bad_json", 3),
    "too large a number": (f'[{ROW},{{"prompt":"a","completion":"b","x":1e400}}]', "bad_json", 2),
    "half a surrogate": (f'[{ROW},{{"prompt":"\\ud800","completion":"b"}}]', "not_utf8", 2),
    "blank": (f'[{ROW},{{"prompt":" ","completion":"b"}}]', "blank_cell", 2),
    "many keys": (
        f"[{ROW},{json.dumps({str(key): 1 for key in range(300)})}]", "too_many_columns", 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_documents(check: Check, case: str) -> None:
    content, code, line = WRONG[case]
    with pytest.raises(InvalidData) as refused:
        check(content if isinstance(content, bytes) else content.encode(), "x.json")
    assert_says(refused.value, code, line)


def test_rows_are_told_by_their_number(check: Check) -> None:
    with pytest.raises(InvalidData, match=r"^Row 2: ") as refused:
        check(f'[{ROW},{{"prompt":"","completion":"b"}}]'.encode(), "x.json")
    assert refused.value.details[0]["row"] == 2


values = st.recursive(
    st.one_of(
        st.none(),
        st.integers(),
        st.text(max_size=5),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
rows = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), max_size=8)


@given(rows=rows, ascii=st.booleans(), indent=st.sampled_from([None, 1]))
@settings(max_examples=150, deadline=None)
def test_any_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    ascii: bool,
    indent: int | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.json"
    for document in (rows, {"size": len(rows), "data": rows}):
        if document is rows or rows:
            path.write_text(
                json.dumps(document, ensure_ascii=ascii, indent=indent),
                encoding="utf-8",
            )
            found = list(json_rows(path, Problems(unit="row")))
            assert found == list(enumerate(rows, start=1))
