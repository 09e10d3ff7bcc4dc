"""Metrics against the libraries that others report them with, on texts of any kind."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from gateway.evaluations.answered import Answer
from gateway.evaluations.metrics.catalogue import metrics_of
from gateway.evaluations.metrics.kinds import Metric
from gateway.evaluations.metrics.overlap import KINDS, rouge
from gateway.evaluations.metrics.scripts import tokens
from gateway.evaluations.metrics.tasks import NAMES
from gateway.evaluations.metrics.translation import bleu, chrf

# Few words, so that texts share some; and anything at all.
WORDS = st.lists(
    st.sampled_from(
        ["the", "a", "cat", "dog", "sat", "on", "mat", ".", ",", "!", "Über", "3.5", "red"]
    ),
    max_size=14,
)
TEXTS = st.one_of(WORDS.map(" ".join), st.text(max_size=40))
PAIRS = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=6)


def answers_of(pairs: Sequence[tuple[str, Sequence[str]]]) -> list[Answer]:
    return [Answer("", tuple(references), text) for text, references in pairs]


def corpus(metric: Metric, answers: Sequence[Answer]) -> float:
    measured = [one for one in metric.measure(answers) if one is not None]
    return metric.corpus(answers, np.array([one.counts for one in measured]).sum(axis=0))


def padded(answers: Sequence[Answer]) -> list[list[str | None]]:
    """References as sacrebleu wants them: the first ones of all, then the second ones."""
    most = max(len(answer.references) for answer in answers)
    return [
        [answer.references[at] if at < len(answer.references) else None for answer in answers]
        for at in range(most)
    ]


@settings(deadline=None, max_examples=200)
@given(PAIRS)
def test_bleu_is_sacrebleus(pairs: list[tuple[str, list[str]]]) -> None:
    answers = answers_of(pairs)
    wanted = sacrebleu.corpus_bleu([text for text, _ in pairs], padded(answers)).score
    assert corpus(bleu("latin"), answers) == pytest.approx(wanted, abs=1e-9)
    for answer, found in zip(answers, bleu("latin").measure(answers), strict=True):
        alone = BLEU(effective_order=True).sentence_score(answer.text, list(answer.references))
        assert found is not None and found.value == pytest.approx(alone.score)


@settings(deadline=None, max_examples=200)
@given(PAIRS)
def test_chrf_is_sacrebleus(pairs: list[tuple[str, list[str]]]) -> None:
    answers = answers_of(pairs)
    wanted = sacrebleu.corpus_chrf([text for text, _ in pairs], padded(answers)).score
    assert corpus(chrf(), answers) == pytest.approx(wanted, abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(PAIRS)
def test_rouge_is_googles(pairs: list[tuple[str, list[str]]]) -> None:
    answers = answers_of([(text.replace(" . ", "\n"), own) for text, own in pairs])
    scorer = RougeScorer(list(KINDS))
    for kind in KINDS:
        single = [
            scorer.score_multi(list(answer.references), answer.text)[kind].fmeasure
            for answer in answers
        ]
        found = rouge(kind, "latin").measure(answers)
        assert [one.value for one in found if one] == single
        assert corpus(rouge(kind, "latin"), answers) == pytest.approx(sum(single) / len(single))


def test_rouge_counts_words_of_other_scripts() -> None:
    references = [["猫が好きです"], ["Ελλάδα και Κύπρος"]]
    answers = [
        Answer("", tuple(references[0]), "犬が好きです"),
        Answer("", ("Ελλάδα και Κύπρος",), "ελλάδα"),
    ]
    (measured,) = metrics_of(["rouge1"], references)
    values = [one.value for one in measured.measure(answers) if one]
    assert values == pytest.approx([5 / 6, 0.5])
    # Google's own tokenizer would find nothing to compare.
    assert (
        rouge("rouge1", "latin").measure(answers)[0]
        == measured.measure([Answer("", ("x",), "y")])[0]
    )


@pytest.mark.parametrize("other", ["我喜欢小猫和小狗", "привет мир", "नमस्ते दुनिया", "สวัสดี"])
def test_rouge_of_texts_in_several_scripts_counts_all_of_them(other: str) -> None:
    """Google's tokenizer would call the others empty, and a right answer worth nothing."""
    references = [["the cat sat on the mat over there"], ["the dog did"], [other]]
    own = [Answer("", tuple(texts), texts[0]) for texts in references]
    for metric in metrics_of(["rouge1", "rougeL"], references):
        assert [one.value for one in metric.measure(own) if one] == [1, 1, 1]
    # Words with accents are Latin ones, and counted as Google does.
    german = [["Über den Äckern müssen schöne Häuser stehen"]]
    (metric,) = metrics_of(["rouge1"], german)
    assert metric.signature.endswith("tokenizer:latin")


def test_vowel_signs_belong_to_their_words() -> None:
    assert tokens("हिन्दी में, 2 क़िताबें") == ["हिन्दी", "में", "2", "क़िताबें"]
    assert tokens("naïve CAFÉ_1 e\u0301") == ["naïve", "café", "1", "e\u0301"]
    assert tokens("猫が cat") == ["猫", "が", "cat"]


def test_bleu_cuts_chinese_into_characters() -> None:
    references = [["我喜欢小猫和小狗。"]]
    (metric,) = metrics_of(["bleu"], references)
    wanted = sacrebleu.corpus_bleu(
        ["我喜欢小猫和大狗。"], [["我喜欢小猫和小狗。"]], tokenize="zh"
    ).score
    assert corpus(
        metric, [Answer("", ("我喜欢小猫和小狗。",), "我喜欢小猫和大狗。")]
    ) == pytest.approx(wanted)
    assert "tok:zh" in metric.signature and wanted > 30


@settings(deadline=None, max_examples=60)
@given(PAIRS, st.integers(0, 2**32))
def test_sums_of_many_resamples_at_once_are_those_of_each(
    pairs: list[tuple[str, list[str]]], seed: int
) -> None:
    answers = answers_of(pairs)
    weights = np.random.default_rng(seed).integers(0, 3, size=(4, len(answers))).astype(float)
    for metric in metrics_of(NAMES, [answer.references for answer in answers]):
        kept = [one for one in metric.measure(answers) if one is not None]
        if len(kept) < len(answers):
            continue
        counts = np.array([one.counts for one in kept])
        together = metric.total(weights @ counts)
        for row, several in zip(weights, together, strict=True):
            alone = float(metric.total(row @ counts))
            assert alone == pytest.approx(float(several), nan_ok=True)


@pytest.mark.parametrize(
    "text", ["", " ", "!!!", "。。", "\x00", "\ud800", "a" * 50_000, "猫" * 30_000]
)
@pytest.mark.parametrize("reference", ["", "...", "the cat sat", "a" * 50_000])
def test_no_text_is_too_odd(text: str, reference: str) -> None:
    answers = [Answer("the cat", (reference,), text), Answer("", (), text)]
    for metric in metrics_of(NAMES, [[reference]]):
        for found in metric.measure(answers):
            assert found is None or (math.isfinite(found.value) and found.value >= 0)
