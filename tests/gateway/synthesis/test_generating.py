"""What is asked for, and what is read of answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.synthesis.generating import Aim, body, request, rows_in
from gateway.synthesis.pairs import Pair, record_of, seeds_of
from gateway.synthesis.shape import shape_of
from gateway.synthesis.spec import Wishes
from shared.datasets import Message, Record

SEEDS = tuple(Pair(f"Question {n} about birds?", f"Answer {n}, as it is.") for n in range(20))
SOURCE = "@startuml\nactor Output\nOutput -> B : Input: 3\n@enduml"


def wishes(**changes: object) -> Wishes:
    return Wishes.model_validate({"model": "m"} | changes)


def test_the_same_seed_asks_the_same_and_another_something_else() -> None:
    aims = [Aim(SEEDS)]
    asked = [request(n, wishes=wishes(), aims=aims, made=()) for n in range(40)]
    assert asked == [request(n, wishes=wishes(), aims=aims, made=()) for n in range(40)]
    assert asked != [request(n, wishes=wishes(seed=1), aims=aims, made=()) for n in range(40)]
    axes = [one.axis for one in asked]
    assert 10 <= sum(axis is None for axis in axes) <= 30
    assert all(len(one.shots) == (1 if one.axis else 4) for one in asked)
    bodies = [body(one, wishes=wishes(), aims=aims, shape=shape_of(SEEDS)) for one in asked]
    assert len({one["seed"] for one in bodies}) == 40


def test_generated_rows_are_examples_beside_the_seeds() -> None:
    made = (Pair("a new one", "yes"), Pair("another new one", "yes"))
    asked = request(0, wishes=wishes(variations=0, shots=6), aims=[Aim(SEEDS)], made=made)
    assert set(made) < set(asked.shots)
    assert sum(shot in SEEDS for shot in asked.shots) == 4


def test_aims_are_asked_for_by_their_shares() -> None:
    aims = [Aim(SEEDS[:9], "birds", 6), Aim(SEEDS[9:12], "bees", 3), Aim(SEEDS[12:], "ants", 1)]
    places = [request(n, wishes=wishes(), aims=aims, made=()).aim for n in range(100)]
    assert [abs(places.count(place) - share) <= 2 for place, share in enumerate((60, 30, 10))]
    asked = request(3, wishes=wishes(), aims=aims, made=())
    said = body(asked, wishes=wishes(), aims=aims, shape=shape_of(SEEDS))["messages"][1]["content"]
    assert f"goes wrong today: {aims[asked.aim].label}." in said
    assert all(shot in aims[asked.aim].pairs for shot in asked.shots)


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


def test_seeds_are_rows_of_one_question() -> None:
    system = Message(role="system", content="Be brief.")
    user, said = Message(role="user", content="Q"), Message(role="assistant", content="A")
    records = [Record(messages=(system, user, said))] * 2
    records += [Record(messages=(user, said)), Record(messages=(user, said, user, said))]
    seeds = seeds_of(records)
    assert seeds.pairs == (Pair("Q", "A"),) * 3
    assert (seeds.system, seeds.left_out) == ("Be brief.", 1)
    assert record_of(Pair("Q", "A"), seeds.system) == records[0]
    assert seeds_of([]).pairs == ()
