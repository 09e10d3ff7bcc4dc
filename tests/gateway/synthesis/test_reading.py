"""What is read of answers."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.synthesis.judging import verdict_in
from gateway.synthesis.pairs import Pair
from gateway.synthesis.reading import rows_in

SOURCE = "@startuml\nactor Output\nOutput -> B : Input: 3\n@enduml"


@pytest.mark.parametrize(
    "text",
    [
        f"### Input\nDraw it\n### Output\n{SOURCE}",
        f"Sure! Here it is:\n\n## Input:\nDraw it\n\n## Output:\n```plantuml\n{SOURCE}\n```\n---\n",
        f"**Input**\nDraw it\n**Output**\n~~~\n{SOURCE}\n~~~",
        f"#### Input 1: Draw it\n#### Output 1:\n{SOURCE}\n\n### End",
        "```json\n" + json.dumps([{"input": "Draw it", "output": SOURCE}]) + "\n```",
        "Here: " + json.dumps({"rows": [{"prompt": "Draw it", "completion": SOURCE}]}) + " Done.",
        json.dumps({"question": "Draw it", "answer": SOURCE}),
    ],
)
def test_a_row_is_read_in_the_forms_that_models_write(text: str) -> None:
    assert rows_in(text) == [Pair("Draw it", SOURCE)]


def test_several_rows_and_one_that_was_cut_off() -> None:
    text = "### Input\na\n### Output\n1\n### Input\nb\n### Output\n2\n### Input\nc\n### Output\nha"
    assert rows_in(text) == [Pair("a", "1"), Pair("b", "2"), Pair("c", "ha")]
    assert rows_in(text, cut_off=True) == [Pair("a", "1"), Pair("b", "2")]
    assert rows_in("Input: a\nOutput: 1\nInput: b\nOutput: 2") == [Pair("a", "1"), Pair("b", "2")]
    lines = '{"text": "a", "target": "1"}\n{"text": "b", "target": {"x": 2}}'
    assert rows_in(lines) == [Pair("a", "1"), Pair("b", '{"x": 2}')]


@pytest.mark.parametrize(
    "text", ["", "I cannot do that.", "### Input\nalone", "[{", "### Output\nx"]
)
def test_what_is_no_row_is_not_guessed(text: str) -> None:
    assert rows_in(text) == []


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    for row in rows_in(text):
        assert row.prompt.strip() and row.completion.strip()
        assert (row.prompt + row.completion).encode().decode() == row.prompt + row.completion


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=5))
def test_rows_as_json_come_back_whole(rows: list[tuple[str, str]]) -> None:
    """(But for what is taken from around a text, and headings among them.)"""
    plain = [(f"q{a.strip()}q", f"a{b.strip()}a") for a, b in rows]
    plain = [(a.replace("\x00", ""), b.replace("\x00", "")) for a, b in plain]
    text = json.dumps([{"input": a, "output": b} for a, b in plain])
    assert rows_in(text) == [Pair(a, b) for a, b in plain]


@pytest.mark.parametrize(
    "text",
    [
        "1. **Input:** Draw it\n   **Output:** A tree",
        "1)\n### Input\nDraw it\n### Output\nA tree\n\n2)\n### Input\nhalf",
        "### Row 1\n### Input\nDraw it\n### Output\nA tree\n\n### Row 2\n\n",
        "**Row 1**\n**Input:**\nDraw it\n**Output:**\nA tree\n\n**Row 2**\n**Input:**\nhalf",
        "- Input: Draw it\n- Output: A tree\n---\n",
        "> ### Input\nDraw it\n> ### Output\nA tree",
        '[{"input": "Draw it", "output": "A tree"}, {"input": "half", "out',
        'Rows {as JSON}: {"input": "Draw it", "output": "A tree"} [end]',
    ],
)
def test_sloppy_answers_are_read_too(text: str) -> None:
    assert rows_in(text) == [Pair("Draw it", "A tree")]


def test_what_looks_like_a_heading_in_an_answer_is_part_of_it() -> None:
    answer = "# Report\n* Input devices\n## Output format\n- Answers follow\n# the end"
    assert rows_in(f"### Input\nList it\n### Output\n{answer}") == [Pair("List it", answer)]
    code = "x = 1\n# 2"
    assert rows_in(f"### Input\nCode\n### Output\n```python\n{code}\n```") == [Pair("Code", code)]


N = 50_000


@pytest.mark.parametrize(
    "text",
    [
        "*" * N + "x",
        "_" * N + "x",
        "> " * N,
        "\n" * N + "x",
        "\n---" * N + "x",
        "#" * N,
        "\n#" * N + "x",
        "```\n" + " " * N + "x",
        "```\n" * N + "x",
        "[" * N,
        "[1," * N,
        '{"input":' * N,
        '["' * N,
        "input" * N,
        "input" + " " * N + "x",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_no_answer_takes_long_to_read(text: str) -> None:
    """(Expressions that try all ways took half a minute for 20,000 stars, and held up all else.)"""
    began = time.process_time()
    for whole in (text, f"### Input\na\n{text}\n### Output\n{text}", f'{{"input": "{text}'):
        rows_in(whole)
        verdict_in(whole)
    assert time.process_time() - began < 3
