"""Continuous batching over one base model: sequences join before a step and leave after it.

Running sequences fill the first rows of the cache without gaps, so that a step reads one block of
it; the row behind them belongs to the one whose prompt is being read.
"""

import logging
from collections import deque
from collections.abc import Callable

import torch

from inference_service.engine.base_model import BaseModel
from inference_service.engine.kv_cache import SlotCache
from inference_service.engine.sampling import next_tokens
from inference_service.engine.sequence import Event, Sequence
from shared.errors import GenPlatError

logger = logging.getLogger(__name__)

# Prompt tokens read between two steps: what a running stream waits for a newcomer at most.
PREFILL_TOKENS = 128
Emit = Callable[[Sequence, Event], None]


class Batch:
    """All sequences of one base model. Used by the generation thread alone."""

    def __init__(self, base: BaseModel, *, max_rows: int, kv_bytes: int, emit: Emit) -> None:
        self.base = base
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.joining: Sequence | None = None
        self._cache = SlotCache(base.model.config, base.dtype, base.device)
        self._max_rows = max_rows
        self._max_tokens = kv_bytes // self._cache.bytes_per_token
        self._emit = emit

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running or self.joining)

    def step(self) -> None:
        """Drop who left, read some prompt tokens, then give every running sequence a token."""
        self._drop_cancelled()
        self._read_prompts()
        if self.running:
            self._decode()
        if not self.busy:
            self._cache.release()

    def fail_all(self, error: Exception) -> None:
        """End every sequence with ``error``."""
        for sequence in (*self.running, *self.waiting, *filter(None, [self.joining])):
            self._emit(sequence, error)
        self.running, self.joining = [], None
        self.waiting.clear()
        self._cache.release()

    def _drop_cancelled(self) -> None:
        if any(sequence.cancelled for sequence in self.waiting):
            self.waiting = deque(s for s in self.waiting if not s.cancelled)
        if self.joining and self.joining.cancelled:
            self.joining = None
        self._leave([row for row, sequence in enumerate(self.running) if sequence.cancelled])

    def _read_prompts(self) -> None:
        budget = PREFILL_TOKENS
        while budget > 0 and (self.joining or self._admit()):
            sequence = self.joining
            assert sequence is not None  # noqa: S101 - _admit has just set it
            try:
                budget -= self._read(sequence, budget)
            except Exception as error:
                logger.exception("reading a prompt failed")
                self.joining = None
                self._emit(sequence, _failure(error))

    def _admit(self) -> bool:
        """Move the next waiting sequence to the row behind the running ones, if there is room."""
        if not self.waiting or len(self.running) >= self._max_rows:
            return False
        rows = len(self.running) + 1
        length = max(s.tokens_at_most for s in (*self.running, self.waiting[0]))
        if self.running and rows * length > self._max_tokens:
            return False
        self.joining = self.waiting.popleft()
        return True

    def _read(self, sequence: Sequence, budget: int) -> int:
        """Read up to ``budget`` tokens of a prompt; behind its last one comes the first answer."""
        prompt = sequence.request.prompt_ids
        start, end = sequence.length, min(sequence.length + budget, len(prompt))
        rows = (*self.running, sequence)
        self._cache.reserve(len(rows), max(s.tokens_at_most for s in rows))
        device = self.base.device
        self.base.lora.select([sequence.request.adapter], self.base.dtype)
        logits = self.base.forward(
            torch.tensor([prompt[start:end]], device=device),
            torch.arange(start, end, device=device)[None],
            self._cache,
            first_row=len(self.running),
        )
        sequence.length = end
        if end == len(prompt):
            self.joining = None
            self.running.append(sequence)
            self._take(next_tokens(logits, [sequence.sampler]), first_row=len(self.running) - 1)
        return end - start

    def _decode(self) -> None:
        try:
            device = self.base.device
            self.base.lora.select([s.request.adapter for s in self.running], self.base.dtype)
            logits = self.base.forward(
                torch.tensor([[s.last_token] for s in self.running], device=device),
                torch.tensor([[s.length] for s in self.running], device=device),
                self._cache,
                first_row=0,
            )
            for sequence in self.running:
                sequence.length += 1
            self._take(next_tokens(logits, [s.sampler for s in self.running]), first_row=0)
        except Exception as error:
            logger.exception("a step failed; its %d requests end", len(self.running))
            failed, self.running = self.running, []
            for sequence in failed:
                self._emit(sequence, _failure(error))

    def _take(self, tokens: list[int], *, first_row: int) -> None:
        finished = []
        for row, token in enumerate(tokens, start=first_row):
            sequence = self.running[row]
            chunk = sequence.take(token)
            if chunk is not None:
                self._emit(sequence, chunk)
                if chunk.finish_reason is not None:
                    finished.append(row)
        self._leave(finished)

    def _leave(self, rows: list[int]) -> None:
        """Free rows; the last running sequences take the places of those that go."""
        for row in sorted(rows, reverse=True):
            last = len(self.running) - 1
            if row != last:
                self._cache.move(last, row, self.running[last].length)
                self.running[row] = self.running[last]
            self.running.pop()
            if self.joining is not None:
                self._cache.move(last + 1, last, self.joining.length)


def _failure(error: Exception) -> GenPlatError:
    if isinstance(error, GenPlatError):
        return error
    return GenPlatError(
        "The model failed on this request; the inference service's log says why.",
        code="generation_failed",
    )
