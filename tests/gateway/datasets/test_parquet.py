"""Parquet: every form in it, hostile files, and what a row's values become."""

import datetime
import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.datasets.preview import first_rows
from shared.errors import InvalidData, TooLarge
from tests.gateway.datasets.checking import Check, assert_says

PAIR = [("user", "a", False), ("assistant", "b", True)]


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **options)
    return out.getvalue()


def test_pairs(check: Check, turns: Any) -> None:
    content = parquet({"prompt": ["a"] * 1000, "completion": ["b"] * 1000}, row_group_size=300)
    assert turns(content, "x.parquet") == [PAIR] * 1000
    checked = check(content, "train-00000-of-00001.parquet")
    assert (checked.file_type, checked.rows) == ("parquet", 1000)
    # Without an ending, the first bytes tell.
    assert check(content, "data").file_type == "parquet"


def test_messages_with_the_nulls_that_parquet_fills_in(turns: Any) -> None:
    content = parquet(
        {
            "messages": [
                [
                    {"role": "user", "content": "a", "tool_calls": None, "weight": None},
                    {"role": "assistant", "content": "b", "tool_calls": [], "weight": 1},
                ]
            ]
        }
    )
    assert turns(content, "x.parquet") == [PAIR]


def test_sharegpt_and_alpaca(turns: Any) -> None:
    talk = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert turns(parquet({"conversations": [talk]}), "x.parquet") == [PAIR]
    rows = {"instruction": ["a"], "input": [None], "output": ["b"], "history": [[["q", "r"]]]}
    assert turns(parquet(rows), "x.parquet") == [
        [("user", "q", False), ("assistant", "r", True), *PAIR]
    ]


def test_other_values_do_no_harm(check: Check, tmp_path: Path) -> None:
    content = parquet(
        {
            "prompt": pa.array(["a", "a"]).dictionary_encode(),
            "completion": pa.array(["b", "b"], pa.large_string()),
            "score": [float("nan"), 0.5],
            "when": [datetime.datetime(2026, 1, 2), None],
            "picture": [b"\xff" * 1000, None],
            "nested": [{"bytes": b"\xff", "path": "x"}, None],
        }
    )
    assert check(content, "x.parquet").rows == 2
    (tmp_path / "x").write_bytes(content)
    first = first_rows(tmp_path / "x", "parquet", 1)[0]
    assert first["score"] == "null" and first["picture"] == "null" and first["nested"] == "null"
    assert first["when"].startswith("2026-01-02")


@pytest.mark.parametrize(
    ("columns", "code", "line"),
    [
        ({"prompt": ["a", " "], "completion": ["b", "b"]}, "blank_cell", 2),
        ({"prompt": ["a", None], "completion": ["b", "b"]}, "not_text", 2),
        ({"prompt": [1], "completion": ["b"]}, "not_text", 1),
        ({"prompt": [b"a"], "completion": ["b"]}, "not_text", 1),
        ({"prompt": ["a", "x" * 200_000], "completion": ["b", "b"]}, "field_too_long", 2),
        ({"prompt": ["a", "x" * 2_000_000], "completion": ["b", "b"]}, "line_too_long", 2),
        ({"a": ["a"], "b": ["b"]}, "missing_column", None),
        ({f"c{n}": ["a"] for n in range(300)}, "too_many_columns", None),
        ({"prompt": pa.array([], pa.string()), "completion": pa.array([], pa.string())},
         "no_rows", None),
    ],
)  # fmt: skip
def test_wrong_rows(check: Check, columns: dict[str, Any], code: str, line: int | None) -> None:
    with pytest.raises(InvalidData) as refused:
        check(parquet(columns), "x.parquet")
    assert_says(refused.value, code, line)


def test_a_column_twice_is_refused(check: Check) -> None:
    out = io.BytesIO()
    names = ["prompt", "completion", "prompt"]
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=names), out)
    with pytest.raises(InvalidData) as refused:
        check(out.getvalue(), "x.parquet")
    assert_says(refused.value, "duplicate_column", None)


def test_a_text_that_is_not_utf8_is_refused(check: Check) -> None:
    wrong = pa.array([b"\xff"]).view(pa.string())
    with pytest.raises(InvalidData) as refused:
        check(parquet({"prompt": wrong, "completion": ["b"]}), "x.parquet")
    assert refused.value.code in ("not_utf8", "bad_parquet")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_named(check: Check, share: float) -> None:
    content = parquet({"prompt": [str(n) for n in range(2000)], "completion": ["b"] * 2000})
    with pytest.raises(InvalidData) as refused:
        check(content[: max(50, int(len(content) * share))], "x.parquet")
    assert_says(refused.value, "bad_parquet", None)


def test_damaged_bytes_are_read_or_refused_and_end_nothing_else(check: Check) -> None:
    content = bytearray(parquet({"prompt": ["a", "b"], "completion": ["c", "d"]}))
    for place in range(4, len(content), 97):
        damaged = bytes(content[:place]) + b"\xff" + bytes(content[place + 1 :])
        try:
            assert check(damaged, "x.parquet").rows <= 2
        except InvalidData as error:
            assert error.message


def test_texts_that_fill_the_memory_are_refused_before(check: Check) -> None:
    """Repeated texts take no room in a file: these are 6 GB in less than one MB."""
    huge = pa.DictionaryArray.from_arrays(
        pa.array([0] * 64, pa.int32()), pa.array(["x" * 100_000_000])
    )
    columns = {"prompt": huge, "completion": pa.array(["b"] * 64)}
    content = parquet(columns, compression="zstd", use_dictionary=True)
    assert len(content) < 1_000_000
    with pytest.raises(InvalidData) as refused:
        check(content, "x.parquet")
    assert refused.value.code in ("too_large", "bad_parquet")


def test_rows_without_end_are_refused_by_their_count(check: Check) -> None:
    count = 3_000_000
    columns = {"prompt": pa.repeat("a", count), "completion": pa.repeat("b", count)}
    content = parquet(columns)
    assert len(content) < 1_000_000
    with pytest.raises(TooLarge):
        check(content, "x.parquet", max_rows=20_000)
    # Wrong rows count too, where they are left out.
    nulls = parquet({"prompt": pa.nulls(count, pa.string()), "completion": pa.repeat("b", count)})
    with pytest.raises(TooLarge):
        check(nulls, "x.parquet", max_rows=20_000, skip_bad_rows=True)


def test_deep_nesting_is_refused(check: Check) -> None:
    kind: pa.DataType = pa.string()
    for _ in range(60):
        kind = pa.list_(kind)
    columns = {"prompt": ["a"], "completion": ["b"], "deep": pa.nulls(1, kind)}
    with pytest.raises(InvalidData) as refused:
        check(parquet(columns), "x.parquet")
    assert refused.value.code == "bad_parquet"


def test_the_process_gets_no_secret(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Python that notes its environment stands in for the real one."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\n")
    python.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setitem(os.environ, "GENPLAT_INTERNAL_TOKEN", "secret")
    with pytest.raises(InvalidData):
        check(parquet({"prompt": ["a"], "completion": ["b"]}), "x.parquet")
    assert "secret" not in (tmp_path / "seen").read_text()
    assert "PATH=" in (tmp_path / "seen").read_text()
