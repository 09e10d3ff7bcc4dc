"""How alike two texts are: chrF of sacrebleu, from 0 to 1. Pure."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF

# What is longer is compared by its beginning: the time that it takes grows with the length.
MOST_CHARACTERS = 20_000


@cache
def _chrf() -> "CHRF":
    # Loaded where it is needed first: with it comes numpy.
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def likeness(text: str, reference: str) -> float:
    """Character n-grams in common (Popović 2015). Two texts without any are alike."""
    text, reference = text[:MOST_CHARACTERS].strip(), reference[:MOST_CHARACTERS].strip()
    if text == reference:
        return 1.0
    return float(_chrf().sentence_score(text, [reference]).score) / 100
