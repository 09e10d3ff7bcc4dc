"""What the score promises, over generated diagrams and written ones."""

import itertools
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evaluations.structure import drawn_lines, mean_structure_f1, structure_f1

EXAMPLES = Path(__file__).parents[3] / "examples"
WORDS = st.text(alphabet="abcdefghij", min_size=1, max_size=6)
LABELS = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)


@st.composite
def diagrams(draw: st.DrawFn, prefix: str = "P") -> tuple[list[str], list[tuple[int, int, str]]]:
    """Labels of participants, and messages between them."""
    labels = draw(st.lists(LABELS, min_size=1, max_size=4, unique=True))
    index = st.integers(0, len(labels) - 1)
    return labels, draw(st.lists(st.tuples(index, index, LABELS), max_size=6))


def written(
    diagram: tuple[list[str], list[tuple[int, int, str]]], alias: str = "P", space: str = " "
) -> str:
    labels, messages = diagram
    lines = [f'participant "{label}" as {alias}{index}' for index, label in enumerate(labels)]
    lines += [
        f"{alias}{source}{space}->{space}{target}:{space}{text}"
        for source, target, text in ((s, f"{alias}{t}", m) for s, t, m in messages)
    ]
    return "\n".join(["@startuml", *lines, "@enduml"])


@given(diagrams())
def test_identical_is_one(diagram: tuple[list[str], list[tuple[int, int, str]]]) -> None:
    assert structure_f1(written(diagram), written(diagram)) == 1


@given(diagrams(), diagrams())
def test_symmetric_and_between_zero_and_one(
    left: tuple[list[str], list[tuple[int, int, str]]],
    right: tuple[list[str], list[tuple[int, int, str]]],
) -> None:
    score = structure_f1(written(left), written(right))
    assert 0 <= score <= 1
    assert score == structure_f1(written(right), written(left))


@given(diagrams())
def test_alias_names_do_not_count(diagram: tuple[list[str], list[tuple[int, int, str]]]) -> None:
    assert structure_f1(written(diagram, alias="P"), written(diagram, alias="Other_")) == 1


@given(diagrams(), st.sampled_from(["", "  ", "\t", " \t "]))
def test_spaces_do_not_count(
    diagram: tuple[list[str], list[tuple[int, int, str]]], space: str
) -> None:
    spaced = written(diagram, space=space).replace("\n", f"{space}\n\n{space}")
    assert structure_f1(spaced, written(diagram)) == 1


@given(diagrams())
def test_disjoint_is_zero(diagram: tuple[list[str], list[tuple[int, int, str]]]) -> None:
    assert structure_f1(written(diagram), "@startuml\nzz -> yy : xx\n@enduml") == 0


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ('actor "Bank Clerk" as C\nC -> Till : open', 'actor "Bank Clerk" as X\nX->Till:open'),
        ('participant A as "Long Name"\nA -> B', 'participant "Long Name" as Q\nQ -> B'),
        ("usecase (Pay) as U\nA --> U", "usecase (Pay) as V\nA --> V"),
        ("component [Web App] as W\nW --> D", "component [Web App] as X\nX --> D"),
        ("participant Server as S\nA -> S", "participant Server as T\nA -> T"),
        ('robust "Door" as D\n@0\nD is Open', 'robust "Door" as E\n@0\nE is Open'),
        ("' a comment\nA -> B", "A -> B"),
        ("/' a comment\nA -> C\n'/\nA -> B /' of two '/ : hi", "A -> B : hi"),
        ("A -> B\n/' open\nA -> C", "A -> B"),
        ('"A" -> "B"', "A -> B"),
    ],
)
def test_the_same_diagram_in_other_words(left: str, right: str) -> None:
    assert structure_f1(left, right) == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("A -> B : hello", "A -> B : bye"),
        ("A -> B", "B -> A"),
        ("A -> B", "A --> B"),
        ('actor "Clerk" as C', 'actor "Teller" as C'),
        (":Treat the guest as Friend;", ":Treat the guest;"),
        ("", "A -> B"),
        ("/' A -> B '/", "A -> B"),
    ],
)
def test_other_diagrams(left: str, right: str) -> None:
    assert structure_f1(left, right) == 0


@pytest.mark.parametrize("piece", ["(", "[", ":", '"', "/'", "( as ", '"a" as b ', "class "])
def test_no_source_takes_long(piece: str) -> None:
    """What a model that cannot stop writes. (By the square of its length it would take minutes.)"""
    began = time.process_time()
    assert structure_f1(piece * 40_000, "A -> B") == 0
    assert time.process_time() - began < 5


def test_an_alias_in_a_text_is_a_word() -> None:
    lines = drawn_lines('participant "Web Server" as Web\nUser -> Web : ask Web')
    assert lines == {"participantWebServer": 1, "User->WebServer:askWeb": 1}


def test_repeated_lines_count_as_often_as_they_stand() -> None:
    assert structure_f1("A -> B\nA -> B", "A -> B") == pytest.approx(2 / 3)
    assert structure_f1("class A {\n}\n", "class A {\n") == 1


def test_the_mean_is_over_examples() -> None:
    assert mean_structure_f1([("A -> B", "A -> B"), ("A -> B", "B -> A")]) == 0.5
    assert mean_structure_f1([]) == 0


def test_bundled_diagrams_differ_from_each_other() -> None:
    rows = (EXAMPLES / "plantuml_validation.jsonl").read_text(encoding="utf-8").splitlines()
    sources = [json.loads(row)["completion"] for row in rows]
    for first, second in itertools.pairwise(sources):
        assert structure_f1(first, first) == 1
        assert structure_f1(first, second) < 0.4
