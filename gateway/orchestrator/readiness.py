"""How good a fallback is on real prompts: a score from 0 to 100, and what pulls it down. Pure.

A prompt's score is 0 where the fallback gave no answer, else its quality (a diagram: 1 where it
renders; a text: its likeness to what the reader got), less where it took longer than is allowed.
The score of all is their mean; what is lost to 100 is told by its cause.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from pydantic import BaseModel

from gateway.orchestrator.background_asking import Told
from gateway.orchestrator.likeness import likeness
from gateway.tables import LoggedRequest

# A fallback may take twice as long as the reader waited, and this long in any case.
SLOWER = 2.0
ALWAYS_SECONDS = 5.0
RESAMPLES = 2000
WORST = 5


@dataclass(frozen=True)
class Judged:
    """One prompt: points that were kept and lost, which make 1 together."""

    request_id: str
    score: float
    unanswered: float = 0.0
    undrawn: float = 0.0
    unlike: float = 0.0
    slow: float = 0.0
    seconds: float | None = None
    reader_seconds: float = 0.0


class Lost(BaseModel):
    """Points of the 100 that were lost, by their cause."""

    unanswered: float
    undrawn: float
    unlike: float
    slow: float


class Worst(BaseModel):
    """One of the prompts that did worst; its texts stand in the request log."""

    request_id: str
    score: float


class ReadinessFigures(BaseModel):
    """``low`` to ``high``: a 95% bootstrap interval of the score."""

    score: float
    low: float
    high: float
    prompts: int
    lost: Lost
    median_seconds: float | None
    reader_median_seconds: float
    worst: list[Worst]


def judge(reader: LoggedRequest, told: Told) -> Judged:
    """What the fallback said, beside what the reader got."""
    if not told.answered or told.said.text is None:
        return Judged(reader.id, 0.0, unanswered=1.0, reader_seconds=reader.seconds)
    undrawn = unlike = 0.0
    if told.said.rendered is not None:
        undrawn = float(not told.said.rendered)
    else:
        unlike = 1 - likeness(told.said.text, reader.reply or "")
    quality = 1 - undrawn - unlike
    allowed = max(SLOWER * reader.seconds, ALWAYS_SECONDS)
    in_time = min(1.0, allowed / told.seconds) if told.seconds > 0 else 1.0
    return Judged(
        reader.id,
        quality * in_time,
        undrawn=undrawn,
        unlike=unlike,
        slow=quality * (1 - in_time),
        seconds=told.seconds,
        reader_seconds=reader.seconds,
    )


def figures_of(judged: Sequence[Judged]) -> ReadinessFigures:
    """Of one prompt at least."""
    scores = [one.score for one in judged]
    low, high = _interval(scores)
    times = [one.seconds for one in judged if one.seconds is not None]
    return ReadinessFigures(
        score=100 * fmean(scores),
        low=100 * low,
        high=100 * high,
        prompts=len(judged),
        lost=Lost(
            unanswered=100 * fmean(one.unanswered for one in judged),
            undrawn=100 * fmean(one.undrawn for one in judged),
            unlike=100 * fmean(one.unlike for one in judged),
            slow=100 * fmean(one.slow for one in judged),
        ),
        median_seconds=median(times) if times else None,
        reader_median_seconds=median(one.reader_seconds for one in judged),
        worst=[
            Worst(request_id=one.request_id, score=100 * one.score)
            for one in sorted(judged, key=lambda one: one.score)[:WORST]
            if one.score < 1
        ],
    )


def _interval(scores: Sequence[float]) -> tuple[float, float]:
    """Percentiles of the means of resampled scores; the same for the same scores. The worst and the
    best that a prompt can score are drawn along: a few prompts, or scores that are all alike, tell
    nothing for certain."""
    chance = random.Random(0)  # noqa: S311 - resampling, no secret
    drawn = [*scores, 0.0, 1.0]
    means = sorted(fmean(chance.choices(drawn, k=len(scores))) for _ in range(RESAMPLES))
    return means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
