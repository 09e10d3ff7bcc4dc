"""A batch that a test drives step by step, without a thread."""

import asyncio
from collections import defaultdict

import torch

from inference_service.engine.base_model import BaseModel
from inference_service.engine.batch import Batch
from inference_service.engine.requests import Chunk, GenerationRequest
from inference_service.engine.sequence import Event, Sequence
from shared.errors import GenPlatError
from tests.inference_service.engine.generating import prompt

PLENTY = 2**30


class Driven:
    """A batch, what it emitted for each sequence, and the most memory that it held."""

    def __init__(self, base: BaseModel, *, max_rows: int = 8, kv_bytes: int = PLENTY) -> None:
        self.base = base
        self.events: defaultdict[Sequence, list[Event]] = defaultdict(list)
        self.batch = Batch(
            base,
            max_rows=max_rows,
            kv_room=lambda: kv_bytes,
            emit=lambda sequence, event: self.events[sequence].append(event),
        )
        self.most_held = 0

    def ask(self, text: str, new_tokens: int) -> Sequence:
        return self.submit(GenerationRequest(self.base, prompt(self.base, text), new_tokens))

    def submit(self, request: GenerationRequest) -> Sequence:
        sequence = Sequence(request, asyncio.get_running_loop())
        self.batch.waiting.append(sequence)
        return sequence

    @torch.inference_mode()
    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.batch.step()
            self.most_held = max(self.most_held, self.batch.kv_bytes_held)

    def finish(self) -> None:
        while self.batch.busy:
            self.step()

    def answer(self, sequence: Sequence) -> str:
        """Its text; all of it must be there."""
        chunks = [event for event in self.events[sequence] if isinstance(event, Chunk)]
        assert chunks == self.events[sequence]
        assert chunks[-1].finish_reason == "length"
        return "".join(chunk.text for chunk in chunks)

    def error(self, sequence: Sequence) -> str:
        """The code of the error that ended it; nothing may come behind that."""
        *before, last = self.events[sequence]
        assert all(isinstance(event, Chunk) for event in before)
        assert isinstance(last, GenPlatError)
        return last.code
