"""One optimizer step beside arithmetic on paper: the rate that is applied, clipping, scaling.

The parameters are two numbers, and their gradient is whatever the test says.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch

from shared.errors import InvalidRequest
from shared.hyperparameters import resolve_hyperparameters
from shared.runs import Hyperparameters
from tests.trainer_service.runs import small_spec
from trainer_service.hardware import Device, Precision
from trainer_service.head_loss import Score
from trainer_service.optimization import Optimizer, StepOutcome, learning_rate_factor
from trainer_service.packing import Packing
from trainer_service.tokenizing import IGNORED, Row

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)
STEPS = 10
ROW = Row((1, 2, 3), (IGNORED, 2, 3))


def numbers(**changes: object) -> Hyperparameters:
    spec = small_spec(**{"max_steps": STEPS, "weight_decay": 0, "max_grad_norm": 1000} | changes)
    return resolve_hyperparameters(spec, examples=24, context_length=512)


def scored(loss: torch.Tensor, *, right: int = 0) -> Score:
    return Score(loss, torch.tensor(right))


class Bench:
    """Two parameters under an optimizer. Each step their gradient is what is given."""

    def __init__(self, *, precision: Precision = "fp32", **changes: object) -> None:
        self.weights = torch.nn.Parameter(torch.zeros(2))
        self.optimizer = Optimizer(
            {"weights": self.weights},
            numbers(**changes),
            device=CPU,
            precision=precision,
            pad_token_id=0,
        )

    def step(
        self, number: int, gradient: Sequence[float], rows: Sequence[Row] = (ROW,)
    ) -> StepOutcome:
        def loss(_ids: torch.Tensor, labels: torch.Tensor, _packing: Packing) -> Score:
            """A sum over the learned places, as the real one is; one of each pass is right."""
            places = int((labels != IGNORED).sum())
            return scored(places * (1 + (self.weights * torch.tensor(gradient)).sum()), right=1)

        return self.optimizer.step(loss, rows, number)

    @property
    def values(self) -> list[float]:
        return cast(list[float], self.weights.tolist())

    @property
    def momentum(self) -> list[float]:
        return cast(list[float], self.optimizer.tensors()["weights.exp_avg"].tolist())


SCHEDULES = {
    "linear": [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8],
    "cosine": [1 / 3, 2 / 3, 1, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806],
    "constant": [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_that_is_applied_follows_its_schedule_behind_the_warm_up(schedule: str) -> None:
    """Where the gradient never changes, each step of Adam is as long as the rate of the moment."""
    bench = Bench(learning_rate=0.01, lr_scheduler_type=schedule, warmup_ratio=0.2)
    steps, before = [], 0.0
    for number in range(STEPS):
        bench.step(number, (3.0, -4.0))
        down, up = bench.values
        assert down == pytest.approx(-up, abs=1e-7)
        assert bench.optimizer.rate(number) == pytest.approx(up - before, abs=1e-6)
        steps.append((up - before) / 0.01)
        before = up
    assert steps == pytest.approx(SCHEDULES[schedule], abs=1e-4)


@pytest.mark.parametrize(
    ("total", "ratio", "schedule", "factors"),
    [
        (3, 0.0, "linear", [1, 2 / 3, 1 / 3]),
        (2, 0.0, "cosine", [1, 0.5]),
        # A part of a step is a whole one.
        (3, 0.1, "linear", [1 / 2, 1, 1 / 2]),
        (1, 0.0, "linear", [1]),
        (1, 0.5, "cosine", [1 / 2]),
        (4, 0.99, "constant", [1 / 5, 2 / 5, 3 / 5, 4 / 5]),
    ],
)
def test_a_schedule_begins_and_ends_above_nothing(
    total: int, ratio: float, schedule: Any, factors: list[float]
) -> None:
    assert [
        learning_rate_factor(step, total=total, warmup_ratio=ratio, schedule=schedule)
        for step in range(total)
    ] == pytest.approx(factors)


@pytest.mark.parametrize(
    ("limit", "kept"), [(1.0, [0.6, 0.8]), (2.5, [1.5, 2.0]), (5.0, [3, 4]), (9.0, [3, 4])]
)
def test_a_gradient_is_cut_to_its_limit_and_told_whole(limit: float, kept: list[float]) -> None:
    bench = Bench(max_grad_norm=limit)
    norm = bench.step(0, (3.0, 4.0)).grad_norm
    assert norm == pytest.approx(5)
    # Adam's memory of a first gradient is a tenth of it.
    assert bench.momentum == pytest.approx([value / 10 for value in kept], rel=1e-4)


def test_a_step_starts_from_a_gradient_of_nothing() -> None:
    bench = Bench()
    assert bench.step(0, (3.0, 4.0)).grad_norm == pytest.approx(5)
    assert bench.step(1, (3.0, 4.0)).grad_norm == pytest.approx(5)


def test_loss_and_gradient_are_means_over_all_learned_places_of_a_step() -> None:
    """However a step is cut into passes: here into three, of five places in all."""
    long = Row((1, 2, 3, 4), (IGNORED, 2, 3, 4))
    short = Row((1, 2), (IGNORED, 2))
    bench = Bench(per_device_train_batch_size=1, gradient_accumulation_steps=3)
    # (Of each pass one place is right.)
    outcome = bench.step(0, (3.0, 4.0), [short, long, short])
    assert outcome == pytest.approx((1, 3 / 5, 5))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_training_that_diverged_is_refused_before_it_spoils_the_weights(
    value: float, precision: Precision
) -> None:
    bench = Bench(precision=precision)
    bench.step(0, (0.5, 0.5))
    before = bench.values
    loss = torch.nn.Parameter(torch.tensor(value))
    with pytest.raises(InvalidRequest, match=r"at step 8: training diverged.*learning_rate") as no:
        bench.optimizer.step(lambda *_: scored(loss * 1), [ROW], 7)
    assert no.value.param == "learning_rate"
    assert bench.values == before


@pytest.mark.parametrize("factor", [0, 1])
def test_a_gradient_without_end_is_refused_although_the_loss_is_fine(factor: int) -> None:
    bench = Bench()
    bench.step(0, (0.5, 0.5))
    before = bench.values

    def steep(*_: torch.Tensor) -> Score:
        """At zero the root is zero and its slope has no end (0 times that is no number)."""
        away = bench.weights - bench.weights.detach()
        return scored((factor * away).sqrt().sum())

    with pytest.raises(InvalidRequest, match=r"gradient became (nan|inf) at step 2: training div"):
        bench.optimizer.step(steep, [ROW], 1)
    assert bench.values == before


def test_half_precision_scales_the_loss_and_nothing_else() -> None:
    """Gradients are scaled back before they are measured and cut."""
    plain, scaled = Bench(max_grad_norm=1.0), Bench(max_grad_norm=1.0, precision="fp16")
    for bench in (plain, scaled):
        outcome = bench.step(0, (3.0, 4.0))
        assert [outcome.loss, outcome.grad_norm] == pytest.approx([1, 5], rel=1e-3)
    assert scaled.optimizer.scaler.get_scale() > 1000
    assert scaled.momentum == pytest.approx(plain.momentum, rel=1e-3)
    assert scaled.values == pytest.approx(plain.values, rel=1e-3)


def test_a_gradient_that_overflows_in_half_precision_costs_its_step_alone() -> None:
    bench = Bench(precision="fp16", learning_rate=0.01)
    scale = bench.optimizer.scaler.get_scale()
    bench.step(0, (1e36, 1.0))
    assert bench.values == [0, 0]
    assert bench.optimizer.scaler.get_scale() == scale / 2
    # A checkpoint of this moment is good all the same.
    again = Bench(precision="fp16", learning_rate=0.01)
    again.optimizer.load_tensors(bench.optimizer.tensors())
    again.optimizer.scaler.load_state_dict(bench.optimizer.scaler.state_dict())
    for each in (bench, again):
        each.step(1, (3.0, 4.0))
    assert again.values == bench.values != [0, 0]
    assert again.momentum == bench.momentum
