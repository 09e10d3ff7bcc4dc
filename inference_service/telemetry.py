"""Prometheus figures of the inference service; each app has its own registry."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from inference_service.engine.requests import Chunk
from inference_service.plantuml.diagrams import Draft, Drawn, Event
from shared.diagrams import RenderedDiagram

_Item = TypeVar("_Item", bound=Chunk | Event)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Telemetry:
    """Counts what passes by."""

    def __init__(self) -> None:
        # When each counter began is a second series beside each, which nobody looks at.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "genplat_inference_requests",
            "Generation requests by kind and outcome.",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self._tokens = Counter(
            "genplat_inference_tokens",
            "Tokens read and written.",
            ("direction",),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "genplat_inference_request_seconds",
            "Time from request to last token.",
            ("kind",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first = Histogram(
            "genplat_inference_first_token_seconds",
            "Time from request to first text.",
            ("kind",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._renders = Counter(
            "genplat_inference_renders",
            "Diagrams by outcome.",
            ("outcome",),
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    def count_render(self, diagram: RenderedDiagram) -> None:
        self._renders.labels("rendered" if diagram.rendered else "failed").inc()

    async def watch(
        self, kind: str, items: AsyncGenerator[_Item, None]
    ) -> AsyncGenerator[_Item, None]:
        """Pass a stream through and record what it was."""
        started, first, outcome = time.perf_counter(), True, "failed"
        last: Chunk | Drawn | None = None
        try:
            async with aclosing(items) as stream:
                async for item in stream:
                    if first and isinstance(item, (Chunk, Draft)) and item.text:
                        first = False
                        self._first.labels(kind).observe(time.perf_counter() - started)
                    if isinstance(item, (Chunk, Drawn)):
                        last = item
                    if isinstance(item, Drawn):
                        self.count_render(item.diagram)
                    yield item
            outcome = "finished"
        except (GeneratorExit, asyncio.CancelledError):
            outcome = "cancelled"
            raise
        finally:
            self._requests.labels(kind, outcome).inc()
            self._seconds.labels(kind).observe(time.perf_counter() - started)
            if last is not None:
                self._tokens.labels("prompt").inc(last.prompt_tokens)
                self._tokens.labels("completion").inc(last.completion_tokens)
