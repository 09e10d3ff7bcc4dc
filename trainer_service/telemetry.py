"""Prometheus figures of one trainer. The run's own are there while it trains, one at a time; its id
is a label of one figure alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.run_events import Beat, Measured, Payload
from shared.runs import RunCommand

OUTCOMES = ("succeeded", "failed", "cancelled", "preempted", "paused")
# Of what the run measured last; ``eval_loss`` stays until the next evaluation.
_OF_RUN = {
    "step": ("genplat_trainer_run_step", "Optimizer steps of the run in training."),
    "total_steps": ("genplat_trainer_run_planned_steps", "Steps that it will have at its end."),
    "loss": ("genplat_trainer_run_loss", "Its training loss at the last step."),
    "eval_loss": ("genplat_trainer_run_eval_loss", "Its validation loss, as evaluated last."),
    "learning_rate": ("genplat_trainer_run_learning_rate", "Its learning rate at the last step."),
    "tokens_per_second": ("genplat_trainer_run_tokens_per_second", "Tokens learned from a second."),
    "eta_seconds": ("genplat_trainer_run_eta_seconds", "Time to its end, as estimated."),
    "memory_bytes": (
        "genplat_trainer_run_memory_bytes",
        "The most that its training held: of the GPU, or resident on CPUs.",
    ),
}


@dataclass
class Figures:
    """Counted by the worker and by whoever watches over its children."""

    ended: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    children: int = 0
    heartbeats: int = 0
    steps: int = 0
    command: RunCommand | None = None
    measured: dict[str, float] = field(default_factory=dict)

    def begin(self, command: RunCommand) -> None:
        """A run's attempt begins."""
        self.command, self.measured = command, {}

    def end(self) -> None:
        self.command, self.measured = None, {}

    def hear(self, payload: Payload) -> None:
        """What a run reports of itself."""
        if isinstance(payload, Beat):
            self.heartbeats += 1
        elif isinstance(payload, Measured):
            self.steps += payload.loss is not None
            self.measured |= payload.model_dump(include=set(_OF_RUN), exclude_none=True)


class _Trainer(Collector):
    def __init__(
        self, figures: Figures, *, listening: Callable[[], bool], busy: Callable[[], bool]
    ) -> None:
        self._figures, self._listening, self._busy = figures, listening, busy

    def collect(self) -> Iterator[Metric]:
        figures = self._figures
        yield GaugeMetricFamily(
            "genplat_trainer_listening",
            "1 while the worker listens to the queue.",
            self._listening(),
        )
        yield GaugeMetricFamily(
            "genplat_trainer_busy", "1 while a run is in training.", self._busy()
        )
        ended = CounterMetricFamily(
            "genplat_trainer_attempts", "Attempts of runs that ended.", labels=["status"]
        )
        for status, count in figures.ended.items():
            ended.add_metric([status], count)
        yield ended
        for name, text, count in (
            ("children", "Training processes that were started.", figures.children),
            ("heartbeats", "Signs of life of runs that were told.", figures.heartbeats),
            ("steps", "Optimizer steps of all runs.", figures.steps),
        ):
            yield CounterMetricFamily(f"genplat_trainer_{name}", text, value=count)
        yield from self._run()

    def _run(self) -> Iterator[Metric]:
        command, measured = self._figures.command, dict(self._figures.measured)
        if command is None:
            return
        info = GaugeMetricFamily(
            "genplat_trainer_run_info",
            "1 for the run in training.",
            labels=["run", "attempt", "base_model", "method"],
        )
        spec = command.spec
        info.add_metric([command.run_id, str(command.attempt), spec.base_model, spec.method], 1)
        yield info
        for name, (metric, text) in _OF_RUN.items():
            if name in measured:
                yield GaugeMetricFamily(metric, text, measured[name])


def make_registry(
    figures: Figures, *, listening: Callable[[], bool], busy: Callable[[], bool]
) -> CollectorRegistry:
    """Read whenever they are asked for."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Trainer(figures, listening=listening, busy=busy))
    return registry
