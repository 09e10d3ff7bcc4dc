"""The engine: one generation thread a process, and an async stream of text for each request.

`Engine.stream` is the interface that lasts; what is behind it may be replaced.
"""

import asyncio
import contextlib
import logging
import threading
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from inference_service.engine.base_model import BaseModel
from inference_service.engine.batch import Batch
from inference_service.engine.likelihood import LikelihoodRequest, Reckoning
from inference_service.engine.lora import Adapter
from inference_service.engine.requests import Chunk, GenerationRequest
from inference_service.engine.sequence import Event, Sequence
from shared.errors import Unavailable

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2.0


@dataclass(frozen=True)
class Load:
    """How busy the engine is."""

    running: int
    waiting: int


class Engine:
    """Decodes every request that waits in common batches, one batch a base model.

    ``kv_bytes`` are for the keys and values of all batches together. A batch's only request runs
    whatever it needs, so that none waits forever for another model's requests to end.
    """

    def __init__(
        self, *, max_rows: int = 32, max_waiting: int = 256, kv_bytes: int = 2**31
    ) -> None:
        self._max_rows, self._max_waiting, self._kv_bytes = max_rows, max_waiting, kv_bytes
        self._condition = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._batches: dict[BaseModel, Batch] = {}
        self._outbox: list[tuple[Sequence, Event]] = []
        self._arrivals: deque[Sequence] = deque()
        # Computed one after the other, a piece between two steps of the batches.
        self._reckonings: deque[tuple[Reckoning, Future[float]]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; requests that still run end with an error."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def max_rows(self) -> int:
        """So many requests are answered at once; others wait."""
        return self._max_rows

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def load(self) -> Load:
        batches = list(self._batches.values())
        running = sum(len(batch.running) + (batch.joining is not None) for batch in batches)
        # (Copies, because the generation thread changes the queues meanwhile.)
        queues = [list(self._arrivals), *(list(batch.waiting) for batch in batches)]
        waiting = sum(not sequence.cancelled for queue in queues for sequence in queue)
        return Load(running=running, waiting=waiting)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        """The answer, piece by piece. The first, empty piece comes as soon as it is accepted.

        Raises `Unavailable` where too many requests wait already. Closing the generator frees the
        request's slot before the next step.
        """
        sequence = Sequence(request, asyncio.get_running_loop())
        self._submit(sequence)
        try:
            yield Chunk("", len(request.prompt_ids))
            while True:
                event = await sequence.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if event.finish_reason is not None:
                    return
        finally:
            sequence.cancelled = True

    async def log_likelihood(self, request: LikelihoodRequest) -> float:
        """How likely the model holds an answer: natural logarithm, the sum over its tokens."""
        found: Future[float] = Future()
        with self._condition:
            if self._closed:
                raise Unavailable("The service is stopping.", retry_after=RETRY_AFTER_SECONDS)
            if len(self._reckonings) >= self._max_waiting:
                raise _queue_full()
            self._reckonings.append((Reckoning(request), found))
            self._condition.notify()
        return await asyncio.wrap_future(found)

    def forget(self, held: BaseModel | Adapter) -> None:
        """Let go of a base model or an adapter that no request uses any more."""

        def release() -> None:
            if isinstance(held, BaseModel):
                batch = self._batches.pop(held, None)
                if batch is not None:
                    batch.fail_all(Unavailable("The model was unloaded.", code="model_not_loaded"))
                return
            for base in self._batches:
                base.lora.forget(held)

        self._post(release)

    def _submit(self, sequence: Sequence) -> None:
        with self._condition:
            if self._closed:
                raise Unavailable("The service is stopping.", retry_after=RETRY_AFTER_SECONDS)
            load = self.load
            # Those that will find a free row at the next step do not count as waiting.
            if load.waiting - max(0, self._max_rows - load.running) >= self._max_waiting:
                raise _queue_full()
            self._arrivals.append(sequence)
            self._condition.notify()

    def _post(self, action: Callable[[], None]) -> None:
        with self._condition:
            self._inbox.append(action)
            self._condition.notify()

    def _batch_of(self, base: BaseModel) -> Batch:
        def kv_room() -> int:
            """What the other batches leave of the memory for keys and values."""
            others = (batch for model, batch in self._batches.items() if model is not base)
            return self._kv_bytes - sum(batch.kv_bytes_held for batch in others)

        if base not in self._batches:
            self._batches[base] = Batch(
                base,
                max_rows=self._max_rows,
                kv_room=kv_room,
                emit=lambda sequence, event: self._outbox.append((sequence, event)),
            )
        return self._batches[base]

    @torch.inference_mode()
    def _run(self) -> None:
        while self._receive():
            for batch in list(self._batches.values()):
                if batch.busy:
                    self._step(batch)
            self._reckon()
            self._deliver()
        for _, found in self._reckonings:
            _settle(found, Unavailable("The service is stopping."))
        for batch in self._batches.values():
            batch.fail_all(Unavailable("The service is stopping."))
        self._deliver()

    def _step(self, batch: Batch) -> None:
        try:
            batch.step()
        except Exception as error:
            logger.exception("a batch failed; its requests end")
            batch.fail_all(error)

    def _reckon(self) -> None:
        """One piece of the first likelihood that is wanted."""
        if not self._reckonings:
            return
        reckoning, found = self._reckonings[0]
        try:
            if not found.cancelled() and not reckoning.advance():
                return
            outcome: float | Exception = reckoning.total
        except Exception as error:
            logger.exception("a likelihood could not be computed")
            outcome = error
        self._reckonings.popleft()
        _settle(found, outcome)

    def _receive(self) -> bool:
        """Do what was posted; sleep while there is nothing to do. False when closed."""
        with self._condition:
            while not (self._closed or self._inbox or self._arrivals or self._busy()):
                self._condition.wait()
            for action in self._inbox:
                action()
            self._inbox.clear()
            for sequence in self._arrivals:
                self._batch_of(sequence.request.base).waiting.append(sequence)
            self._arrivals.clear()
        return not self._closed

    def _busy(self) -> bool:
        return bool(self._reckonings) or any(batch.busy for batch in self._batches.values())

    def _deliver(self) -> None:
        """Hand over what a step brought: one call into each event loop, not one a token."""
        by_loop = defaultdict(list)
        for sequence, event in self._outbox:
            by_loop[sequence.loop].append((sequence.events, event))
        self._outbox.clear()
        for loop, items in by_loop.items():
            # A loop that has ended has no readers left.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_put_all, items)


def _put_all(items: list[tuple[asyncio.Queue[Event], Event]]) -> None:
    for queue, event in items:
        queue.put_nowait(event)


def _settle(found: Future[float], outcome: float | Exception) -> None:
    if not found.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        found.set_exception(outcome)
    else:
        found.set_result(outcome)


def _queue_full() -> Unavailable:
    return Unavailable(
        "Too many requests wait for the model; try again in a moment.",
        code="queue_full",
        retry_after=RETRY_AFTER_SECONDS,
    )
