"""GLEU, the metric of grammatical error correction: BLEU that also punishes what was wrong in the
source and was left as it was.

After Napoles, Sakaguchi, Post and Tetreault, "Ground Truth for Grammatical Error Correction
Metrics" (ACL 2015) and "GLEU Without Tuning" (arXiv:1605.02592): up to 4 words, split at spaces as
the texts are (data such as JFLEG comes tokenized). As in their program, a sentence whose words are
in its reference at all is not punished for them however often the source has them. Of several
references one is drawn for each sentence, 500 times with the seeds of their program; the mean is
the score. (This is not Google's GLEU of machine translation, nltk's `gleu_score`.)
"""

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gateway.evaluations.answered import Answer
from gateway.evaluations.metrics.kinds import Floats, Kind, Measured

ORDER = 4
DRAWS = 500
SEED_STEP = 101
# Their counts of one sentence: both lengths, then (matched, possible) of each order.
COUNTS = 2 + 2 * ORDER


class Gleu(Kind):
    """Counts add up over sentences; of several references their mean stands for what is drawn."""

    def measure(self, answers: Sequence[Answer]) -> list[Measured | None]:
        found: list[Measured | None] = []
        for answer in answers:
            counts = np.array(counts_by_reference(answer), dtype=np.float64)
            value = float(self.total(np.where(counts == 0, 1.0, counts)).mean())
            found.append(
                Measured(value if answer.text.split() else 0.0, tuple(counts.mean(axis=0)))
            )
        return found

    def total(self, sums: Floats) -> Floats:
        written, wanted = sums[..., 0], sums[..., 1]
        matched, possible = sums[..., 2::2], sums[..., 3::2]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(matched / possible).mean(axis=-1)
            score = 100 * np.exp(np.minimum(0, 1 - wanted / written) + logs)
        return np.asarray(np.where((sums == 0).any(axis=-1), 0.0, score), dtype=np.float64)

    def corpus(self, answers: Sequence[Answer], sums: Floats) -> float:
        if all(len(answer.references) <= 1 for answer in answers):
            return float(self.total(sums))
        counts = [np.array(counts_by_reference(answer), dtype=np.float64) for answer in answers]
        drawn = np.zeros((DRAWS, COUNTS))
        for draw in range(DRAWS):
            # Not a secret: the same references must be drawn everywhere.
            source = random.Random(draw * SEED_STEP)  # noqa: S311
            for own in counts:
                drawn[draw] += own[source.randint(0, len(own) - 1)]
        return float(self.total(drawn).mean())


def counts_by_reference(answer: Answer) -> list[list[int]]:
    """The counts of one answer against each of its references."""
    written, source = answer.text.split(), answer.source.split()
    said = [_ngrams(written, size) for size in range(1, ORDER + 1)]
    asked = [_ngrams(source, size) for size in range(1, ORDER + 1)]
    found = []
    for reference in answer.references or ("",):
        wanted = reference.split()
        counts = [len(written), len(wanted)]
        for size, (mine, before) in enumerate(zip(said, asked, strict=True), 1):
            right = _ngrams(wanted, size)
            wrong = Counter({words: count for words, count in before.items() if words not in right})
            matched = (mine & right).total() - (mine & wrong).total()
            counts += [max(matched, 0), max(len(written) + 1 - size, 0)]
        found.append(counts)
    return found


def _ngrams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + size]) for at in range(len(words) + 1 - size))


def gleu() -> Gleu:
    signature = f"gleu|Napoles 2016|order:4|words at spaces|references:drawn {DRAWS} times"
    return Gleu("gleu", "GLEU", signature, unit="points")
