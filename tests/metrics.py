"""Expositions of the three services, read by Prometheus' own parser; no fixture, no test."""

from collections.abc import Mapping

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.queue_watch import note_sight
from gateway.services import Services
from gateway.telemetry import Telemetry
from inference_service.service import InferenceService
from shared.run_events import Measured
from shared.runs import FineTuneSpec, RunCommand
from trainer_service.telemetry import Figures, make_registry

Families = Mapping[str, Metric]


def families(exposition: bytes | str) -> Families:
    """By the name that queries use: a counter's ends in ``_total``."""
    text = exposition if isinstance(exposition, str) else exposition.decode()
    found: dict[str, Metric] = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name not in found, f"{name} is there twice"
        found[name] = family
    return found


def value(found: Families, name: str, sample: str = "", **labels: str) -> float | None:
    """One sample's; None where there is none. ``sample``: what stands behind the family's name."""
    for one in found[name].samples:
        if one.labels == labels and one.name in (name + sample, name):
            return one.value
    return None


def of_gateway(services: Services) -> Families:
    note_sight(services.database, reachable=True, workers=1)
    return families(Telemetry().render(services))


def of_trainer(figures: Figures | None = None) -> Families:
    registry = make_registry(
        figures or training_figures(), listening=lambda: True, busy=lambda: True
    )
    return families(generate_latest(registry))


def training_figures() -> Figures:
    """As they are in the middle of a run."""
    figures = Figures()
    spec = FineTuneSpec(base_model="org/model", dataset_id="ds_1")
    figures.begin(RunCommand.model_construct(run_id="run_1", attempt=2, spec=spec))
    figures.hear(
        Measured(
            step=7,
            total_steps=40,
            epoch=0.5,
            loss=1.5,
            learning_rate=1e-4,
            tokens_per_second=321.0,
            eta_seconds=9.0,
            memory_bytes=12345,
        )
    )
    figures.hear(Measured(step=7, total_steps=40, epoch=0.5, eval_loss=1.25))
    return figures


def of_inference(service: InferenceService) -> Families:
    return families(service.telemetry.exposition())
