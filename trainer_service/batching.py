"""Which rows make an optimizer step, and how they are cut into forward passes; no model here."""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import torch

from trainer_service.mixing import Part, copies_in_epoch, rows_in_epoch, spread
from trainer_service.packing import Packing, packing_of
from trainer_service.tokenizing import IGNORED, AnyRow, PairRow, Row

# Rows are sorted by length within windows of this many batches, so that order stays random.
WINDOW_BATCHES = 50
# Of what attention sees less is kept than of what is read through all layers, but not nothing.
SEEN_FOR_READ = 2


class Batch(NamedTuple):
    """Padded rows. ``labels`` are shifted: at each place the token that is to come next."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    packing: Packing

    def on(self, device: str) -> "Batch":
        return Batch(self.input_ids.to(device), self.labels.to(device), self.packing)


class PairBatch(NamedTuple):
    """Padded sources, what of them is no padding, and padded targets as they are."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor

    def on(self, device: str) -> "PairBatch":
        return PairBatch(*(part.to(device) for part in self))


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    return max(1, math.ceil(rows / rows_per_step))


def plan_epoch(
    lengths: Sequence[int],
    *,
    rows_per_step: int,
    seed: int,
    epoch: int,
    copies: Sequence[int] | None = None,
) -> list[list[int]]:
    """Row numbers of each optimizer step of an epoch: rows of like length together, steps in
    random order. A function of its arguments alone, so that a resumed run sees the same.
    ``copies``: how often the epoch sees each row (None: once)."""
    copies = [1] * len(lengths) if copies is None else copies
    # Not a secret: the order must be the same again after a restart.
    source = random.Random(f"{seed}:{epoch}")  # noqa: S311
    shuffled = [row for row, count in enumerate(copies) if count]
    source.shuffle(shuffled)
    order = spread(shuffled, copies)
    # Sorting brings copies of a row together again: not so where each is in its own window.
    apart = math.ceil(len(order) / (rows_per_step * max(copies, default=1)))
    window = min(WINDOW_BATCHES, max(1, apart)) * rows_per_step
    steps: list[list[int]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda row: lengths[row])
        steps += [near[at : at + rows_per_step] for at in range(0, len(near), rows_per_step)]
    source.shuffle(steps)
    return steps


class StepOrder:
    """The rows of every optimizer step, counted over all epochs. The plan of the epoch under way
    is kept: to make it, all rows are sorted and shuffled."""

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        rows_per_step: int,
        seed: int,
        parts: Sequence[Part] | None = None,
    ) -> None:
        self.lengths = lengths
        self.rows_per_step = rows_per_step
        self.seed = seed
        self.parts = [Part(len(lengths))] if parts is None else parts
        self.steps_per_epoch = steps_per_epoch(rows_in_epoch(self.parts), rows_per_step)
        self._epoch = -1
        self._plan: list[list[int]] = []

    def rows(self, step: int) -> list[int]:
        """The row numbers of ``step`` (from 0)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._plan = plan_epoch(
                self.lengths,
                rows_per_step=self.rows_per_step,
                seed=self.seed,
                epoch=epoch,
                copies=copies_in_epoch(self.parts, seed=self.seed, epoch=epoch),
            )
            self._epoch = epoch
        return self._plan[place]


class PassLimits(NamedTuple):
    """What one forward pass may hold; a longer row goes alone. ``shared``: where rows are packed,
    how many first tokens they have in common, which are read once. Else all are padded: None."""

    rows: int
    tokens: int | None = None
    shared: int | None = None

    def allow(self, rows: int, tokens: int, padded: int) -> bool:
        """Whether a pass may have so many ``rows`` of so many ``tokens``, and ``padded`` ones."""
        if rows > self.rows:
            return False
        if not self.tokens:
            return True
        if self.shared is None:
            return padded <= self.tokens
        read = tokens - (rows - 1) * self.shared
        return read <= self.tokens and padded <= SEEN_FOR_READ * self.tokens


def cut_to_passes(sizes: Sequence[tuple[int, int]], limits: PassLimits) -> list[list[int]]:
    """Cut rows of such ``sizes`` (tokens for the encoder and for the decoder) into forward passes.
    Returns the row numbers of each, of the largest pass first: what the next ones need fits into
    the memory that it leaves."""
    passes: list[list[int]] = []
    for row in sorted(range(len(sizes)), key=lambda row: sum(sizes[row])):
        more = [sizes[other] for other in (*(passes[-1] if passes else ()), row)]
        tokens = sum(map(sum, more))
        padded = len(more) * (max(size[0] for size in more) + max(size[1] for size in more))
        if not passes or not limits.allow(len(more), tokens, padded):
            passes.append([])
        passes[-1].append(row)
    return passes[::-1]


def collate(rows: Sequence[AnyRow], *, pad_token_id: int) -> Batch | PairBatch:
    """Pad on the right to the longest row. All rows are of one kind."""
    pairs = [row for row in rows if isinstance(row, PairRow)]
    if pairs:
        return collate_pairs(pairs, pad_token_id=pad_token_id)
    return collate_rows([row for row in rows if isinstance(row, Row)], pad_token_id=pad_token_id)


def collate_rows(rows: Sequence[Row], *, pad_token_id: int) -> Batch:
    tokens, labels = [row.tokens for row in rows], [row.labels[1:] for row in rows]
    packing = packing_of(tokens)
    return Batch(_padded(tokens, pad_token_id), _padded(labels, IGNORED, packing.width), packing)


def collate_pairs(rows: Sequence[PairRow], *, pad_token_id: int) -> PairBatch:
    return PairBatch(
        _padded([row.source for row in rows], pad_token_id),
        _padded([[1] * len(row.source) for row in rows], 0),
        _padded([row.target for row in rows], IGNORED),
    )


def _padded(rows: Sequence[Sequence[int]], filler: int, width: int = 0) -> torch.Tensor:
    width = width or max(map(len, rows))
    padded = torch.full((len(rows), width), filler)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row)
    return padded
