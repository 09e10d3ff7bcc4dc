"""Every example of docs/data.md is what it says."""

import json
import re
from pathlib import Path

import pytest

from tests.gateway.datasets.checking import Check

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| (.*?) \| `(\{.*?\})`(?:[:;].*)? \|$", PAGE, re.MULTILINE)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 8


@pytest.mark.parametrize(("title", "row"), EXAMPLES)
def test_an_example(check: Check, title: str, row: str) -> None:
    found = check(row.encode(), "x.jsonl")
    assert found.rows == 1
    names = re.findall(r"`(.*?)`", title) or ["prompt/completion"]
    assert found.format in names
    assert check(json.dumps({"data": [json.loads(row)]}).encode(), "x.json").rows == 1
