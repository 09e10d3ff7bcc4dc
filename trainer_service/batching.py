"""Which rows make an optimizer step, and how they are cut into forward passes; no model here."""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import torch

from trainer_service.tokenizing import IGNORED, Row

# Rows are sorted by length within windows of this many batches, so that order stays random.
WINDOW_BATCHES = 50


class Batch(NamedTuple):
    """Padded rows. ``labels`` are shifted: at each place the token that is to come next."""

    input_ids: torch.Tensor
    labels: torch.Tensor

    def on(self, device: str) -> "Batch":
        return Batch(self.input_ids.to(device), self.labels.to(device))


def steps_per_epoch(rows: int, rows_per_step: int) -> int:
    return max(1, math.ceil(rows / rows_per_step))


def plan_epoch(
    lengths: Sequence[int], *, rows_per_step: int, seed: int, epoch: int
) -> list[list[int]]:
    """Row numbers of each optimizer step of an epoch: rows of like length together, steps in
    random order. A function of its arguments alone, so that a resumed run sees the same."""
    # Not a secret: the order must be the same again after a restart.
    source = random.Random(f"{seed}:{epoch}")  # noqa: S311
    order = list(range(len(lengths)))
    source.shuffle(order)
    window = WINDOW_BATCHES * rows_per_step
    steps: list[list[int]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda row: lengths[row])
        steps += [near[at : at + rows_per_step] for at in range(0, len(near), rows_per_step)]
    source.shuffle(steps)
    return steps


class StepOrder:
    """The rows of every optimizer step, counted over all epochs. The plan of the epoch under way
    is kept: to make it, all rows are sorted and shuffled."""

    def __init__(self, lengths: Sequence[int], *, rows_per_step: int, seed: int) -> None:
        self.lengths = lengths
        self.rows_per_step = rows_per_step
        self.seed = seed
        self._epoch = -1
        self._plan: list[list[int]] = []

    def rows(self, step: int) -> list[int]:
        """The row numbers of ``step`` (from 0)."""
        epoch, place = divmod(step, steps_per_epoch(len(self.lengths), self.rows_per_step))
        if epoch != self._epoch:
            self._plan = plan_epoch(
                self.lengths, rows_per_step=self.rows_per_step, seed=self.seed, epoch=epoch
            )
            self._epoch = epoch
        return self._plan[place]


def cut_to_passes(
    lengths: Sequence[int], rows: Sequence[int], *, max_rows: int, max_tokens: int | None
) -> list[list[int]]:
    """Cut a step's rows into forward passes of at most ``max_rows`` rows and, padding counted,
    ``max_tokens`` tokens (a longer row goes alone)."""
    passes: list[list[int]] = []
    for row in sorted(rows, key=lambda row: lengths[row]):
        # Sorted by length, so this row is the longest of its pass so far.
        full = not passes or len(passes[-1]) == max_rows
        if full or (max_tokens and (len(passes[-1]) + 1) * lengths[row] > max_tokens):
            passes.append([])
        passes[-1].append(row)
    return passes


def collate(rows: Sequence[Row], *, pad_token_id: int) -> Batch:
    """Pad on the right to the longest row."""
    width = max(len(row.tokens) for row in rows)
    input_ids = torch.full((len(rows), width), pad_token_id)
    labels = torch.full((len(rows), width), IGNORED)
    for index, row in enumerate(rows):
        length = len(row.tokens)
        input_ids[index, :length] = torch.tensor(row.tokens)
        labels[index, : length - 1] = torch.tensor(row.labels[1:])
    return Batch(input_ids, labels)
