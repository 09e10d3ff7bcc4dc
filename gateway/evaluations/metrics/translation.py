"""BLEU and chrF by sacrebleu, which counts; what sums of its counts come to is computed here for
many resamples at once, as `sacrebleu.BLEU.compute_bleu` and `sacrebleu.CHRF` do for one.

BLEU: up to 4 words, exponential smoothing, closest reference length. chrF: up to 6 characters,
beta 2, the best reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.metrics.base import Metric as Reference
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from gateway.evaluations.answered import Answer
from gateway.evaluations.metrics.kinds import Floats, Kind, Measured
from gateway.evaluations.metrics.scripts import Words

_TOKENIZERS = {"latin": "13a", "unicode": "13a", "chinese": "zh", "characters": "char"}
_WORDS, _CHARACTERS = 4, 6
_BETA_SQUARED = 4.0


class _Counted(Kind):
    """A metric of which sacrebleu counts what each answer adds."""

    def counter(self) -> Reference:
        raise NotImplementedError

    def total(self, sums: Floats) -> Floats:
        raise NotImplementedError

    def measure(self, answers: Sequence[Answer]) -> list[Measured | None]:
        counter = self.counter()
        found: list[Measured | None] = []
        for answer in answers:
            references = [[text] for text in answer.references or ("",)]
            (counts,) = counter._extract_corpus_statistics([answer.text], references)
            score = counter.sentence_score(answer.text, list(answer.references or ("",))).score
            found.append(Measured(float(score), tuple(map(float, counts))))
        return found

    def corpus(self, answers: Sequence[Answer], sums: Floats) -> float:  # noqa: ARG002
        return float(self.total(sums))


@dataclass(frozen=True)
class Bleu(_Counted):
    tokenizer: str = "13a"

    def counter(self) -> Reference:
        # Of one answer alone, orders that it is too short for are left out.
        return BLEU(tokenize=self.tokenizer, effective_order=True)

    def total(self, sums: Floats) -> Floats:
        written, wanted = sums[..., 0], sums[..., 1]
        correct, counted = sums[..., 2 : 2 + _WORDS], sums[..., 2 + _WORDS :]
        missed = (correct == 0) & (counted > 0)
        smooth = 2.0 ** np.cumsum(missed, axis=-1)
        above = np.where(missed, 1 / smooth, correct)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(above / counted)
            penalty = np.where(written < wanted, np.exp(1 - wanted / written), 1.0)
            score = 100 * penalty * np.exp(logs.mean(axis=-1))
        nothing = (correct.sum(axis=-1) == 0) | (counted == 0).any(axis=-1)
        return np.asarray(np.where(nothing, 0.0, score), dtype=np.float64)


class Chrf(_Counted):
    def counter(self) -> Reference:
        return CHRF()

    def total(self, sums: Floats) -> Floats:
        counts = sums.reshape(*sums.shape[:-1], _CHARACTERS, 3)
        written, wanted, matched = counts[..., 0], counts[..., 1], counts[..., 2]
        used = (written > 0) & (wanted > 0)
        orders = np.maximum(used.sum(axis=-1), 1)
        precision = np.where(used, matched / np.maximum(written, 1), 0).sum(axis=-1) / orders
        recall = np.where(used, matched / np.maximum(wanted, 1), 0).sum(axis=-1) / orders
        below = _BETA_SQUARED * precision + recall
        above = (1 + _BETA_SQUARED) * precision * recall
        score = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        return np.asarray(100 * score, dtype=np.float64)


def bleu(words: Words) -> Bleu:
    tokenizer = _TOKENIZERS[words]
    signature = f"sacrebleu|case:mixed|eff:no|smooth:exp|tok:{tokenizer}"
    return Bleu("bleu", "BLEU", signature, unit="points", tokenizer=tokenizer)


def chrf() -> Chrf:
    return Chrf("chrf", "chrF", "sacrebleu|case:mixed|nc:6|nw:0|beta:2|space:no", unit="points")
