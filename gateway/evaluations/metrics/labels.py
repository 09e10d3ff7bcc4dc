"""Accuracy and macro-F1 of answers that are labels. Pure.

A label is compared without regard to case, to spaces around it and to a full stop behind it. The
macro average is over the labels that the references have, as scikit-learn's ``f1_score`` with
``labels`` set to those and ``zero_division=0``; an answer that is none of them is simply wrong.
Data with more than `MAX_LABELS` is no classification: there is no macro-F1 of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.evaluations.answered import Answer
from gateway.evaluations.metrics.kinds import Averaged, Floats, Kind, Measured, quotient
from gateway.evaluations.metrics.texts import label_of

MAX_LABELS = 200


class Accuracy(Averaged):
    def of(self, answer: Answer) -> float:
        return float(label_of(answer.text) in map(label_of, answer.references))


@dataclass(frozen=True)
class _Labelled(Kind):
    labels: tuple[str, ...] = ()


class MacroF1(_Labelled):
    """Counts: of each label how often it was right, said wrongly, and missed."""

    def measure(self, answers: Sequence[Answer]) -> list[Measured | None]:
        if len(self.labels) > MAX_LABELS:
            return [None] * len(answers)
        place = {label: index for index, label in enumerate(self.labels)}
        return [self._one(answer, place) for answer in answers]

    def _one(self, answer: Answer, place: dict[str, int]) -> Measured:
        said = label_of(answer.text)
        wanted = [label_of(reference) for reference in answer.references]
        counts = np.zeros((len(self.labels), 3))
        right = said in wanted
        if right:
            counts[place[said], 0] = 1
        else:
            if said in place:
                counts[place[said], 1] = 1
            if wanted and wanted[0] in place:
                counts[place[wanted[0]], 2] = 1
        return Measured(float(right), tuple(counts.ravel()))

    def total(self, sums: Floats) -> Floats:
        counts = sums.reshape(*sums.shape[:-1], len(self.labels), 3)
        right, wrong, missed = counts[..., 0], counts[..., 1], counts[..., 2]
        # (A resample may hold none of a label: there is nothing to say of it there.)
        wanted = right + missed > 0
        f1 = quotient(2 * right, 2 * right + wrong + missed)
        return quotient(np.where(wanted, f1, 0).sum(axis=-1), wanted.sum(axis=-1).astype(float))

    def corpus(self, answers: Sequence[Answer], sums: Floats) -> float:  # noqa: ARG002
        return float(self.total(sums))


def accuracy() -> Accuracy:
    return Accuracy("accuracy", "Accuracy", "label|case:ignored", binary=True)


def macro_f1(references: Sequence[Sequence[str]]) -> MacroF1:
    labels = tuple(sorted({label_of(text) for own in references for text in own}))
    signature = f"label|case:ignored|labels:{len(labels)}"
    return MacroF1("macro_f1", "Macro-F1", signature, labels=labels)
