"""Metrics of an answer's form: whether it ended, its length, whether it is exactly what was wanted,
whether its diagram renders, and how likely the model holds the reference. Pure."""

import unicodedata
from collections.abc import Sequence

import numpy as np

from gateway.evaluations.answered import Answer
from gateway.evaluations.metrics.kinds import (
    Averaged,
    Floats,
    Kind,
    Measured,
    quotient,
)
from gateway.evaluations.metrics.texts import diagram_in
from gateway.evaluations.structure import structure_f1


class ExactMatch(Averaged):
    def of(self, answer: Answer) -> float:
        return float(_plain(answer.text) in map(_plain, answer.references))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()


class StopRate(Averaged):
    def of(self, answer: Answer) -> float:
        return float(answer.finish_reason == "stop")


class Length(Averaged):
    def of(self, answer: Answer) -> float:
        return float(len(answer.text))


class LengthRatio(Kind):
    """Characters of all answers over those of their first references."""

    def measure(self, answers: Sequence[Answer]) -> list[Measured | None]:
        found: list[Measured | None] = []
        for answer in answers:
            wanted = len(answer.references[0]) if answer.references else 0
            counts = (float(len(answer.text)), float(wanted))
            found.append(Measured(counts[0] / wanted, counts) if wanted else None)
        return found

    def total(self, sums: Floats) -> Floats:
        return quotient(sums[..., 0], sums[..., 1])

    def corpus(self, answers: Sequence[Answer], sums: Floats) -> float:  # noqa: ARG002
        return float(self.total(sums))


class RenderRate(Averaged):
    def of(self, answer: Answer) -> float | None:
        return None if answer.rendered is None else float(answer.rendered)


class StructureF1(Averaged):
    """The best over the references. An answer without a diagram draws nothing."""

    def of(self, answer: Answer) -> float:
        drawn = diagram_in(answer.text)
        found = (structure_f1(drawn, reference) for reference in answer.references)
        return max(found, default=0.0) if drawn else 0.0


class Perplexity(Kind):
    """exp of the mean negative log-likelihood of a token of the first references, given what was
    asked; the token that ends an answer counts as one. Only models with the same tokenizer can be
    compared by it."""

    def measure(self, answers: Sequence[Answer]) -> list[Measured | None]:
        return [self._one(answer) for answer in answers]

    def _one(self, answer: Answer) -> Measured | None:
        if answer.log_likelihood is None or not answer.likelihood_tokens:
            return None
        counts = (-answer.log_likelihood, float(answer.likelihood_tokens))
        return Measured(float(np.exp(counts[0] / counts[1])), counts)

    def total(self, sums: Floats) -> Floats:
        return np.exp(quotient(sums[..., 0], sums[..., 1]))

    def corpus(self, answers: Sequence[Answer], sums: Floats) -> float:  # noqa: ARG002
        return float(self.total(sums))


class Similarity(Averaged):
    @property
    def bounds(self) -> tuple[float, float]:
        return 1.0, 5.0

    def of(self, answer: Answer) -> float | None:
        return answer.similarity


class Preference(Averaged):
    def of(self, answer: Answer) -> float | None:
        return answer.preference


def similarity() -> Similarity:
    return Similarity("judge_similarity", "Similarity (judge)", "judge|1 to 5", unit="number")


def preference() -> Preference:
    return Preference("judge_preference", "Preferred (judge)", "judge|both orders|ties half")


def exact_match() -> ExactMatch:
    return ExactMatch("exact_match", "Exact match", "NFC|spaces around it ignored", binary=True)


def stop_rate() -> StopRate:
    return StopRate("stop_rate", "Stop rate", "finish_reason:stop", binary=True)


def length() -> Length:
    return Length("length", "Length", "characters", unit="number", better="neither")


def length_ratio() -> LengthRatio:
    title, signature = "Length ratio", "characters of answers over those of references"
    return LengthRatio("length_ratio", title, signature, unit="number", better="neither")


def render_rate() -> RenderRate:
    return RenderRate("render_rate", "Render rate", "PlantUML|one attempt", binary=True)


def structure() -> StructureF1:
    return StructureF1("structure_f1", "Structure F1", "drawn lines|aliases resolved")


def perplexity() -> Perplexity:
    signature = "nats a token|first reference|end token counted"
    return Perplexity("perplexity", "Perplexity", signature, unit="number", better="lower")
