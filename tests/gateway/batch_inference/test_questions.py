"""Datasets in which nobody has answered the questions, or not all of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.api.live import Live
from tests.gateway.batch_inference.command_line import answering, batch, results
from tests.gateway.conftest import gateway_settings
from tests.valkey import Valkey


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, valkey_server: Valkey) -> Iterator[Live]:
    """One for all: each test has a place of its own for its results."""
    with answering(gateway_settings(tmp_path_factory.mktemp("gateway"), valkey_server)) as live:
        yield live


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([{"prompt": "a"}, {"prompt": "b", "completion": "B"}], [("a", None), ("b", "B")]),
        ([{"text": "a", "id": "1"}], [("a", None)]),
        ([{"instruction": "a", "input": ""}, {"instruction": "b", "input": "c", "output": "d"}],
         [("a", None), ("b\nc", "d")]),
        ([{"prompt": [user("a")]}], [("a", None)]),
        ([{"system": "s", "question": "a"}], [("s\na", None)]),
        (
            [
                {"messages": [user("a")]},
                {"messages": [user("a"), said("b"), user("c")]},
                {"messages": [user("a"), said("b")]},
            ],
            [("a", None), ("a\nb\nc", None), ("a", "b")],
        ),
    ],
)  # fmt: skip
def test_where_no_answer_is_desired_there_is_no_target(
    live: Live, tmp_path: Path, config: Path, rows: list[Any], wanted: list[tuple[str, str | None]]
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert batch(live, config) == 0
    found = [
        (row["instructions"], row["target_responses"]) for row in results(config.parent / "out")
    ]
    assert found == wanted


def test_a_column_of_texts_is_enough(live: Live, tmp_path: Path, config: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,asked\n1,a\n2,b\n")
    given = ("--dataset", tmp_path / "rows.csv", "--text-column", "asked")
    assert batch(live, config, *given) == 0
    found = results(config.parent / "out")
    assert [(row["instructions"], row["target_responses"]) for row in found] == [
        ("a", None),
        ("b", None),
    ]
