"""What the trainer tells of itself and of the run that it trains."""

from shared.run_events import Beat
from tests.metrics import of_trainer, training_figures, value
from trainer_service.telemetry import Figures


def test_the_run_in_training_is_told() -> None:
    figures = training_figures()
    figures.hear(Beat())
    found = of_trainer(figures)
    assert value(found, "genplat_trainer_run_step") == 7
    assert value(found, "genplat_trainer_run_planned_steps") == 40
    assert value(found, "genplat_trainer_run_loss") == 1.5
    assert value(found, "genplat_trainer_run_eval_loss") == 1.25
    assert value(found, "genplat_trainer_run_tokens_per_second") == 321
    # The evaluation after a step is none.
    assert value(found, "genplat_trainer_steps_total") == 1
    assert value(found, "genplat_trainer_heartbeats_total") == 1
    (info,) = found["genplat_trainer_run_info"].samples
    assert info.labels == {
        "run": "run_1",
        "attempt": "2",
        "base_model": "org/model",
        "method": "lora",
    }


def test_without_a_run_nothing_of_one_is_told() -> None:
    figures = training_figures()
    figures.end()
    found = of_trainer(figures)
    assert not [name for name in found if name.startswith("genplat_trainer_run_")]
    assert value(found, "genplat_trainer_steps_total") == 1


def test_every_way_to_end_is_there_from_the_start() -> None:
    samples = of_trainer(Figures())["genplat_trainer_attempts_total"].samples
    assert {sample.labels["status"]: sample.value for sample in samples} == {
        "succeeded": 0,
        "failed": 0,
        "cancelled": 0,
        "preempted": 0,
        "paused": 0,
    }
