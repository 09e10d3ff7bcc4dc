"""Continuous batching over one base model: sequences join before a step and leave after it.

Running sequences fill the first rows of the cache without gaps, so that a step reads one block of
it; the row behind them belongs to the one whose prompt is being read. What a row is and how it is
read and written differs by model family: see `rows`.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from inference_service.engine.base_model import BaseModel
from inference_service.engine.families import rows_of
from inference_service.engine.sampling import next_tokens
from inference_service.engine.sequence import Event, Sequence
from shared.chaos import stage
from shared.errors import GenPlatError

logger = logging.getLogger(__name__)

# Prompt tokens read between two steps: what a running stream waits for a newcomer at most.
PREFILL_TOKENS = 128
Emit = Callable[[Sequence, Event], None]


@dataclass
class Work:
    """What was computed until now, of all batches: of ``steps`` each gave every row a token."""

    prompt_tokens: int = 0
    steps: int = 0
    tokens: int = 0


class Batch:
    """All sequences of one base model. Used by the generation thread alone."""

    def __init__(
        self,
        base: BaseModel,
        *,
        max_rows: int,
        kv_room: Callable[[], int],
        emit: Emit,
        work: Work | None = None,
    ) -> None:
        """``kv_room`` says how many bytes of keys and values this batch may hold now; ``work`` is
        added to, for all batches."""
        self.base = base
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.joining: Sequence | None = None
        self._rows = rows_of(base)
        self._max_rows = max_rows
        self._kv_room = kv_room
        self._emit = emit
        self._work = work or Work()

    @property
    def rows_held(self) -> int:
        """Rows that are running, or whose prompt is being read."""
        return len(self.running) + (self.joining is not None)

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running or self.joining)

    @property
    def kv_bytes_held(self) -> int:
        return self._rows.bytes_held

    def step(self) -> None:
        """Drop who left, read some prompt tokens, then give every running sequence a token."""
        try:
            self._drop_cancelled()
            self._read_prompts()
            if self.running:
                self._decode()
        except Exception as error:
            names = ", ".join(sequence.request_id or "?" for sequence in self._admitted)
            logger.exception("a step failed; the requests in its rows end: %s", names)
            self._fail_admitted(_failure(error))
        if not self.busy:
            self._rows.release()

    def fail_all(self, error: Exception) -> None:
        """End every sequence with ``error``."""
        self._fail_admitted(error)
        for sequence in self.waiting:
            self._emit(sequence, error)
        self.waiting.clear()

    @property
    def _admitted(self) -> list[Sequence]:
        """Those that have rows, in the order of the rows."""
        return [*self.running, *filter(None, [self.joining])]

    def _fail_admitted(self, error: Exception) -> None:
        """End all that have rows: no slot can be trusted any more. Those that wait lost nothing."""
        for sequence in self._admitted:
            self._emit(sequence, error)
        self.running, self.joining = [], None
        self._rows.release()

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
                # It has written into its own row alone: the one behind the others, or their last
                # one where its first token is what failed.
                about = {"request_id": sequence.request_id}
                logger.exception("reading a prompt failed", extra=about)
                self.joining = None
                if self.running[-1:] == [sequence]:
                    self.running.pop()
                self._emit(sequence, _failure(error))

    def _admit(self) -> bool:
        """Move the next waiting sequence to the row behind the running ones, if there is room.

        Where none runs there always is: the one that is too large for the limit would wait forever.
        """
        if not self.waiting or len(self.running) >= self._max_rows:
            return False
        together, room = [*self.running, self.waiting[0]], self._kv_room()
        if self.running and not self._rows.has_room(together, room):
            return False
        self.joining = self.waiting.popleft()
        self._rows.reserve(together, max_rows=self._max_rows, max_bytes=room)
        return True

    def _read(self, sequence: Sequence, budget: int) -> int:
        """Read of a prompt what ``budget`` tokens allow; returns how many they were. Whose prompt
        is read to its end joins the others, with its first token where there is one yet."""
        stage("prompt_is_read", sequence.length)
        reading = self._rows.read(sequence, len(self.running), budget)
        self._work.prompt_tokens += reading.tokens
        if reading.done:
            self.joining = None
            self.running.append(sequence)
            if reading.logits is not None:
                tokens = next_tokens(reading.logits, [sequence.sampler])
                self._take(tokens, first_row=len(self.running) - 1)
        return reading.tokens

    def _decode(self) -> None:
        stage("token_is_decoded", self.running[0].length)
        logits = self._rows.decode(self.running)
        self._work.steps += 1
        self._work.tokens += len(self.running)
        for sequence in self.running:
            sequence.length += 1
        self._take(next_tokens(logits, [s.sampler for s in self.running]), first_row=0)

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
                self._rows.move(last, row, self.running[last])
                self.running[row] = self.running[last]
            self.running.pop()
            if self.joining is not None:
                self._rows.move(last + 1, last, self.joining)


def _failure(error: Exception) -> GenPlatError:
    if isinstance(error, GenPlatError):
        return error
    return GenPlatError(
        "The model failed on this request; the inference service's log says why.",
        code="generation_failed",
    )
