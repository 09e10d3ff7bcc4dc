"""Metrics that are computed here, against values worked out by hand or published by others."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from gateway.evaluations.answered import Answer
from gateway.evaluations.metrics import answers, labels, questions
from gateway.evaluations.metrics.gleu import Gleu, gleu
from gateway.evaluations.metrics.kinds import Metric
from gateway.evaluations.metrics.tasks import task_of

SOURCES = [
    "This sentences contain gramamtical error .",
    "This is a sentence .",
    "This is no change .",
    "I bought a pen to write a letter to a friend .",
]
WRITTEN = [
    "This sentence contains a grammatical error .",
    "the sentence was corrected into completely different one .",
    "This is no change .",
    "I bought a pen to write a letter to a friend .",
]
REFERENCES = [
    (
        "This sentence contains a grammatical error .",
        "These sentences contain grammatical errors .",
    ),
    ("dummy sentence .", "another dummy sentence ."),
    ("This is no change .", "This is no change ."),
    (
        "I bought a pen to write a letter to the friend .",
        "I bought a pen to write the letter to the friend .",
    ),
]


def value(metric: Metric, own: Sequence[Answer]) -> float:
    measured = [one for one in metric.measure(own) if one is not None]
    return metric.corpus(own, np.array([one.counts for one in measured]).sum(axis=0))


def corrections() -> list[Answer]:
    return [
        Answer(source, references, text)
        for source, references, text in zip(SOURCES, REFERENCES, WRITTEN, strict=True)
    ]


def test_gleu_is_what_the_authors_program_says() -> None:
    # The texts and the value are those with which the package gec-metrics 0.1.1 checks itself
    # against the program of Napoles et al.
    assert value(gleu(), corrections()) == pytest.approx(36.9131, abs=1e-4)


def test_gleu_by_hand() -> None:
    """One sentence of five words: 4 of 5 words, 2 of 4 pairs, 0 of 3 triples are right, and "is",
    which was wrong and stayed, takes one more away."""
    own = [Answer("he is go home .", ("he goes home soon .",), "he is goes home .")]
    (measured,) = gleu().measure(own)
    assert measured is not None
    # Words: he, goes, home, . are right; is was in the source, not in the reference. Of the pairs
    # "goes home" is right; "he is" is wrong and was there; "home ." likewise.
    assert measured.counts == (5, 5, 3, 5, 0, 4, 0, 3, 0, 2)
    assert value(gleu(), own) == 0
    better = [Answer("he go home .", ("he goes home .",), "he goes home .")]
    assert value(gleu(), better) == pytest.approx(100)


def test_gleu_punishes_what_was_left_wrong() -> None:
    left = Answer(SOURCES[0], REFERENCES[0][:1], SOURCES[0])
    corrected = Answer(SOURCES[0], REFERENCES[0][:1], WRITTEN[0])
    assert value(gleu(), [left]) < value(gleu(), [corrected]) == pytest.approx(100)


def test_a_single_reference_needs_no_drawing() -> None:
    own = [Answer(answer.source, answer.references[:1], answer.text) for answer in corrections()]
    twice = [Answer(answer.source, answer.references * 2, answer.text) for answer in own]
    assert value(Gleu("gleu", "", ""), own) == pytest.approx(value(gleu(), twice))


@pytest.mark.parametrize(
    ("text", "references", "match", "f1"),
    [
        ("The Eiffel Tower.", ("Eiffel Tower",), 1, 1),
        ("in Paris, France", ("Paris", "Paris, France"), 0, 0.8),
        ("no idea", ("Paris",), 0, 0),
        ("the", ("a",), 1, 1),
        ("", ("",), 1, 1),
        ("", ("Paris",), 0, 0),
        ("New York New York", ("New York",), 0, 2 / 3),
    ],
)
def test_questions_are_judged_as_in_squad(
    text: str, references: tuple[str, ...], match: float, f1: float
) -> None:
    own = [Answer("Where?", references, text)]
    assert value(questions.question_match(), own) == match
    assert value(questions.question_f1(), own) == pytest.approx(f1)


def test_macro_f1_by_hand() -> None:
    """Wanted a a a b b c; said a a b b x c: F1 of a 0.8, of b 0.5, of c 1."""
    own = [
        Answer("", (wanted,), said)
        for wanted, said in zip("aaabbc", ["A", " a.", "b", "b", "x", "c"], strict=True)
    ]
    metric = labels.macro_f1([answer.references for answer in own])
    assert value(metric, own) == pytest.approx((0.8 + 0.5 + 1) / 3)
    assert value(labels.accuracy(), own) == pytest.approx(4 / 6)


def test_texts_that_are_all_different_have_no_macro_f1() -> None:
    for count, found in ((labels.MAX_LABELS, 1.0), (labels.MAX_LABELS + 1, None)):
        own = [Answer("", (f"label {n}",), f"label {n}") for n in range(count)]
        metric = labels.macro_f1([answer.references for answer in own])
        if found is None:
            assert set(metric.measure(own)) == {None}
        else:
            assert value(metric, own) == found


def test_perplexity_is_of_tokens_and_not_of_answers() -> None:
    own = [
        Answer("", ("x",), "", log_likelihood=-2.0, likelihood_tokens=2),
        Answer("", ("x",), "", log_likelihood=-8.0, likelihood_tokens=2),
        Answer("", ("x",), ""),
    ]
    assert value(answers.perplexity(), own) == pytest.approx(math.exp(10 / 4))
    assert answers.perplexity().measure(own)[2] is None


def test_a_diagram_is_found_between_sentences() -> None:
    source = "@startuml\nA -> B : hi\n@enduml"
    own = [Answer("", (source,), f"Here it is:\n```\n{source}\n```", rendered=True)]
    assert value(answers.structure(), own) == 1
    assert value(answers.structure(), [Answer("", (source,), "A -> B : hi")]) == 0
    assert value(answers.render_rate(), [*own, Answer("", (source,), "", rendered=False)]) == 0.5


def test_forms_of_answers() -> None:
    own = [Answer("", ("abcd",), " abcd\r\n"), Answer("", ("ef",), "e", finish_reason="length")]
    assert value(answers.exact_match(), own) == 0.5
    assert value(answers.stop_rate(), own) == 0.5
    assert value(answers.length(), own) == 4
    assert value(answers.length_ratio(), own) == pytest.approx(8 / 6)


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("plantuml", [("Draw it.", "@startuml\nA -> B\n@enduml")] * 9 + [("Hi", "Hello")]),
        (
            "correction",
            [
                (f"He go to {n} school every day .", f"He goes to {n} school every day .")
                for n in range(9)
            ],
        ),
        (
            "classification",
            [(f"Text number {n}, quite long", "good" if n % 2 else "Bad.") for n in range(9)],
        ),
        ("questions", [(f"Who was king number {n}?", f"King {n}") for n in range(9)]),
        ("general", [(f"Tell me of {n}.", f"Once upon a time {n} " * 9) for n in range(9)]),
        ("general", []),
    ],
)
def test_tasks_are_known_by_their_data(task: str, rows: list[tuple[str, str]]) -> None:
    assert task_of([source for source, _ in rows], [[target] for _, target in rows]) == task
