"""Worlds without a difference between two arms, in which an A/B stop might still see one.

Each draws many experiments at once, outcome by outcome in the order in which they become known:
two arrays, a row an experiment, of who got the unit (True: the treatment) and what came of it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Random = np.random.Generator
Shape = tuple[int, int]
# By the share that the treatment gets, and (experiments, outcomes).
World = Callable[[Random, float, Shape], tuple[Array, Array]]


def _drawn(random: Random, share: float, shape: Shape) -> Array:
    return np.asarray(random.random(shape) < share)


def _yes_or_no(random: Random, rates: Array) -> Array:
    return (random.random(rates.shape) < rates).astype(float)


def _ramp(shape: Shape) -> Array:
    return np.broadcast_to(np.linspace(0.05, 0.95, shape[1]), shape)


def _days(shape: Shape) -> Array:
    """Good and bad days, a hundred outcomes each."""
    return np.broadcast_to(np.where(np.arange(shape[1]) // 100 % 2, 0.9, 0.1), shape)


def grades(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    """A judge's scores, from 1 to 10."""
    scores = random.choice(10, shape, p=(0.05, 0, 0.05, 0, 0.1, 0.1, 0.2, 0.3, 0.15, 0.05))
    return _drawn(random, share, shape), scores / 9


def heavy_tail(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    """Seconds, of which a few are very many; counted up to 30."""
    seconds = np.minimum(random.pareto(1.1, shape) + 0.3, 30)
    return _drawn(random, share, shape), 1 - seconds / 30


def ties(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    """Nearly all the same."""
    return _drawn(random, share, shape), np.where(random.random(shape) < 0.01, 1.0, 0.5)


def rare(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    return _drawn(random, share, shape), _yes_or_no(random, np.full(shape, 0.01))


def ramp(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    """It gets better all the time, for both."""
    return _drawn(random, share, shape), _yes_or_no(random, _ramp(shape))


def days(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    return _drawn(random, share, shape), _yes_or_no(random, _days(shape))


def quiet_arm(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    """Of the treatment's answers a third is rated, of the control's all; on good and bad days."""
    heard = share / 3 / (share / 3 + 1 - share)
    return days(random, heard, shape)


def quiet_arm_on_a_ramp(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    heard = share / 3 / (share / 3 + 1 - share)
    return ramp(random, heard, shape)


def weights_move(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    """From a tenth of the share to all of it, halfway up a ramp."""
    shares = np.where(np.arange(shape[1]) < shape[1] // 2, share / 10, share)
    return np.asarray(random.random(shape) < shares), _yes_or_no(random, _ramp(shape))


def bad_news_first(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    """Who is not content says so at once, the others some hundred outcomes later."""
    values = _yes_or_no(random, np.full(shape, 0.6))
    known = np.arange(shape[1]) + values * random.exponential(300, shape)
    return _drawn(random, share, shape), np.take_along_axis(values, known.argsort(axis=1), axis=1)


def visits(random: Random, share: float, shape: Shape) -> tuple[Array, Array]:
    """People who come for thirty requests each, some always content and some never; each request is
    drawn by itself."""
    people = random.beta(0.3, 0.3, (shape[0], shape[1] // 30 + 1))
    return _drawn(random, share, shape), _yes_or_no(
        random, np.repeat(people, 30, axis=1)[:, : shape[1]]
    )


WORLDS: dict[str, World] = {
    world.__name__: world
    for world in (
        grades, heavy_tail, ties, rare, ramp, days, quiet_arm, quiet_arm_on_a_ramp, weights_move,
        bad_news_first, visits,
    )
}  # fmt: skip


def block_differences(to_treatment: Array, values: Array) -> Array:
    """What `statistics.Blocks` makes of each row: a block's difference where it ends, else NaN."""
    found = np.full(values.shape, np.nan)
    counts, totals = np.zeros((2, len(values))), np.zeros((2, len(values)))
    rows = np.arange(len(values))
    for number in range(values.shape[1]):
        arm = to_treatment[:, number].astype(int)
        counts[arm, rows] += 1
        totals[arm, rows] += values[:, number]
        ended = counts.all(axis=0)
        means = totals[:, ended] / counts[:, ended]
        found[ended, number] = means[1] - means[0]
        counts[:, ended] = totals[:, ended] = 0
    return found


def blocks_by_number(to_treatment: Array, values: Array, share: float) -> Array:
    """The blocks of a simpler test: as many outcomes of each arm as their shares say, the first
    with the first, whenever they came."""
    found = np.full(values.shape, np.nan)
    many = round((1 - share) / share)
    for row, (arms, said) in enumerate(zip(to_treatment, values, strict=True)):
        treatment, control = said[arms], said[~arms]
        whole = min(len(treatment), len(control) // many)
        means = control[: whole * many].reshape(whole, many).mean(axis=1)
        found[row, :whole] = treatment[:whole] - means
    return found
