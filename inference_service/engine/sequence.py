"""One running request: its tokens so far, and the text that may be shown of them."""

import asyncio
from dataclasses import dataclass, field

from inference_service.engine.requests import Chunk, FinishReason, GenerationRequest
from inference_service.engine.sampling import Sampler
from inference_service.engine.text import Detokenizer, StopFilter
from shared.request_id import current

Event = Chunk | Exception
# More than a character is spread over.
_CONTEXT = 8


@dataclass(eq=False)
class Sequence:
    """State of a request inside the engine. ``length`` counts its tokens in the cache: those of
    prompt and answer, or of the answer alone where the prompt lies apart from it."""

    request: GenerationRequest
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    length: int = 0
    last_token: int = 0
    generated: int = 0
    # Set by the reader, from another thread, when it no longer wants the answer.
    cancelled: bool = False
    # For the log: many are worked on in one thread.
    request_id: str | None = field(default_factory=current)

    def __post_init__(self) -> None:
        self.sampler = Sampler(self.request.sampling)
        before = self.request.prompt_ids[-_CONTEXT:] if self.request.continues else ()
        self._text = Detokenizer(self.request.base.codec.decode, before)
        self._stop = StopFilter(self.request.stop_strings)

    def take(self, token: int) -> Chunk | None:
        """Add a generated token; returns what there is to say about it, if anything."""
        if token in self.request.stop_token_ids:
            return self._finish("stop")
        self.last_token = token
        self.generated += 1
        text = self._stop.add(self._text.add(token))
        if self._stop.stopped:
            return self._chunk(text, "stop")
        if self.generated >= self.request.max_new_tokens:
            return self._finish("length", text)
        return self._chunk(text) if text else None

    def _finish(self, reason: FinishReason, text: str = "") -> Chunk:
        text += self._stop.add(self._text.finish())
        if self._stop.stopped:
            return self._chunk(text, "stop")
        return self._chunk(text + self._stop.finish(), reason)

    def _chunk(self, text: str, reason: FinishReason | None = None) -> Chunk:
        return Chunk(text, len(self.request.prompt_ids), self.generated, reason)
