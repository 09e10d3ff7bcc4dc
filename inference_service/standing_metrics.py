"""How the engine, the models and the renderer stand when Prometheus asks."""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from inference_service.engine.engine import Engine
from inference_service.model_manager import ModelManager
from inference_service.plantuml.renderer import Renderer
from shared.chat import ModelState


class StandingMetrics(Collector):
    """Read from them, counted nowhere twice."""

    def __init__(self, engine: Engine, models: ModelManager, renderer: Renderer) -> None:
        self._engine, self._models, self._renderer = engine, models, renderer

    def collect(self) -> Iterator[Metric]:
        yield from self._of_engine()
        yield from self._of_models()
        yield from self._of_renderer()

    def _of_engine(self) -> Iterator[Metric]:
        load, work = self._engine.load, self._engine.work
        for name, text, value in (
            ("running", "Requests in the batches.", load.running),
            ("waiting", "Requests that wait for a row.", load.waiting),
            ("max_rows", "Requests that a batch takes at most.", self._engine.max_rows),
            ("kv_bytes", "Memory that keys and values hold.", load.kv_bytes),
            ("kv_limit_bytes", "What they may hold together.", self._engine.kv_limit_bytes),
        ):
            yield GaugeMetricFamily(f"genplat_inference_{name}", text, value)
        for name, text, count in (
            ("read_tokens", "Prompt tokens that were computed.", work.prompt_tokens),
            ("decode_steps", "Steps that gave every row of a batch a token.", work.steps),
            ("decoded_tokens", "Tokens that those steps made.", work.tokens),
        ):
            yield CounterMetricFamily(f"genplat_inference_{name}", text, value=count)

    def _of_models(self) -> Iterator[Metric]:
        states = Counter(model.state for model in self._models.models())
        models = GaugeMetricFamily(
            "genplat_inference_models", "Names that models are loaded under.", labels=["state"]
        )
        for state in get_args(ModelState):
            models.add_metric([state], states[state])
        yield models
        held = self._models.held()
        yield GaugeMetricFamily(
            "genplat_inference_base_models", "Base models in memory.", held.base_models
        )
        yield GaugeMetricFamily(
            "genplat_inference_adapters", "Adapters in memory, over them.", held.adapters
        )
        yield GaugeMetricFamily(
            "genplat_inference_weights_bytes", "Memory of the base models' weights.", held.bytes
        )

    def _of_renderer(self) -> Iterator[Metric]:
        renderer = self._renderer
        yield GaugeMetricFamily(
            "genplat_inference_renderer_up", "1 while diagrams can be drawn.", not renderer.problem
        )
        yield GaugeMetricFamily(
            "genplat_inference_renderer_drawing", "Diagrams drawn now or waiting.", renderer.drawing
        )
        yield CounterMetricFamily(
            "genplat_inference_renderer_starts",
            "Renderer processes that were started; two at the start, more where one ended.",
            value=renderer.starts,
        )
        yield CounterMetricFamily(
            "genplat_inference_render_cache_hits",
            "Diagrams that had been drawn before.",
            value=renderer.cache_hits,
        )
        yield SummaryMetricFamily(
            "genplat_inference_render_seconds",
            "Time to both pictures of a diagram.",
            count_value=renderer.drawn,
            sum_value=renderer.drawing_seconds,
        )
