"""What each of several devices needs of a run: shares, and what is whole at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.hyperparameters import resolve_hyperparameters
from shared.memory import Longest, MemoryEstimate, Model, estimate, model_of, rounded_copies
from shared.model_library import built_in_library
from shared.runs import FineTuneSpec, Method
from shared.spread import BUCKET, Spread, may_shard, per_device, room

METHODS: list[Method] = ["full", "lora"]


def a_model(name: str) -> Model:
    model = model_of(built_in_library()[name])
    assert model is not None
    return model


def alone(model: Model, method: Method) -> MemoryEstimate:
    spec = FineTuneSpec(base_model="x", dataset_id="x", method=method)
    numbers = resolve_hyperparameters(spec, examples=1000, context_length=2048, family=model.family)
    return estimate(
        model, method, numbers, device="cuda", precision="bf16", longest=Longest(512, 64)
    )


SHAPED = [name for name, entry in built_in_library().items() if entry.shape is not None]


@given(name=st.sampled_from(SHAPED), method=st.sampled_from(METHODS), devices=st.integers(2, 16))
def test_sharded_devices_hold_their_share_and_what_is_whole_at_a_time(
    name: str, method: Method, devices: int
) -> None:
    model = a_model(name)
    whole = alone(model, method)
    each = per_device(whole, model, method, "bf16", Spread(devices, sharded=True))
    more = per_device(whole, model, method, "bf16", Spread(devices + 1, sharded=True))
    assert more.total < each.total
    assert each.weights > whole.weights / devices
    assert each.optimizer == whole.optimizer // devices
    assert each.overhead == whole.overhead
    copies = rounded_copies(model, "bf16") if method == "full" else 0
    assert each.activations == whole.activations - copies > 0


def test_without_sharding_each_needs_as_much_as_one_and_a_message() -> None:
    model = a_model("HuggingFaceTB/SmolLM2-135M-Instruct")
    whole = alone(model, "full")
    assert per_device(whole, model, "full", "bf16", Spread()) == whole
    each = per_device(whole, model, "full", "bf16", Spread(4))
    assert each.total == whole.total + 4 * BUCKET


def test_a_large_model_that_no_device_holds_fits_where_it_is_divided() -> None:
    model = a_model("mistralai/Mistral-7B-Instruct-v0.3")
    whole = alone(model, "full")
    each = per_device(whole, model, "full", "bf16", Spread(8, sharded=True))
    assert whole.total > 110e9 and each.total < 40e9


@pytest.mark.parametrize(
    ("devices", "method", "sharding", "may"),
    [
        (1, "full", "auto", False),
        (2, "full", "auto", True),
        (2, "lora", "full", True),
        (2, "lora", "none", False),
        (2, "qlora", "auto", False),
    ],
)
def test_what_may_be_sharded(devices: int, method: Method, sharding: str, may: bool) -> None:
    assert may_shard(devices, method, sharding) is may  # type: ignore[arg-type]


def test_processes_on_a_processor_share_its_memory() -> None:
    assert (room(8, "cuda", 2), room(8, "cpu", 2)) == (8, 4)
