"""The memory estimate: its arithmetic, and that it moves the way memory does.

How near it comes to real peaks is measured by `benchmarks.memory_estimate`.
"""

from typing import Any

import pytest

from shared.hyperparameters import resolve_hyperparameters
from shared.memory import Longest, MemoryEstimate, estimate, fits, model_of
from shared.model_library import built_in_library
from shared.runs import FineTuneSpec, Method

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
T5 = "google-t5/t5-small"
METHODS: tuple[Method, ...] = ("full", "lora", "qlora")


def need(
    method: Method = "lora",
    base_model: str = SMOLLM2,
    longest: Longest | None = None,
    device: Any = "cpu",
    precision: Any = "fp32",
    **numbers: Any,
) -> MemoryEstimate:
    entry = built_in_library()[base_model]
    spec = FineTuneSpec.model_validate(
        {"base_model": base_model, "dataset_id": "any", "method": method, **numbers}
    )
    decided = resolve_hyperparameters(
        spec, examples=1000, context_length=entry.context_length, family=entry.family
    )
    model = model_of(entry)
    assert model is not None
    return estimate(model, method, decided, device=device, precision=precision, longest=longest)


def test_full_training_holds_weights_gradients_and_two_moments() -> None:
    full = need("full")
    assert full.weights == full.gradients == 4 * 134_515_008
    assert full.optimizer == 8 * 134_515_008
    assert full.total == sum(
        (full.weights, full.gradients, full.optimizer, full.overhead,
         max(full.activations, full.evaluation_peak))
    )  # fmt: skip


def test_lora_learns_an_adapter_alone() -> None:
    lora = need("lora", lora_r=16)
    # 4.88 million parameters of an adapter of rank 16 over all linear layers.
    assert lora.gradients == pytest.approx(4 * 4.88e6, rel=0.01)
    assert lora.optimizer == 2 * lora.gradients
    assert need("lora", lora_r=32).optimizer == 2 * lora.optimizer


def test_qlora_packs_the_matrices_inside_the_layers_alone() -> None:
    """The embeddings of 28.3 million parameters stay whole."""
    weights = need("qlora").weights - need("qlora").gradients
    assert weights == pytest.approx(106.2e6 * 0.516 + 4 * 28.35e6, rel=0.01)


@pytest.mark.parametrize("base_model", list(built_in_library()))
def test_methods_need_less_and_less(base_model: str) -> None:
    full, lora, qlora = (need(method, base_model).total for method in METHODS)
    assert full > lora > qlora > 0


@pytest.mark.parametrize("base_model", [SMOLLM2, T5])
@pytest.mark.parametrize("method", METHODS)
def test_what_saves_memory_saves_it_here_too(base_model: str, method: Method) -> None:
    usual = need(method, base_model, per_device_train_batch_size=8, device="cuda")
    fewer = need(method, base_model, per_device_train_batch_size=1, device="cuda")
    shorter = need(method, base_model, per_device_train_batch_size=8, max_length=64, device="cuda")
    checkpointed = need(
        method,
        base_model,
        per_device_train_batch_size=8,
        gradient_checkpointing=True,
        device="cuda",
    )
    for saving in (fewer, shorter, checkpointed):
        assert saving.activations < usual.activations


def test_on_a_cpu_a_pass_has_a_limited_number_of_tokens() -> None:
    """Rows beyond it go in passes of their own, so that a larger batch costs nothing there."""
    many = need(per_device_train_batch_size=64, longest=Longest(800))
    assert many == need(per_device_train_batch_size=2, longest=Longest(800))
    short = need(per_device_train_batch_size=8, longest=Longest(64))
    assert short.activations < many.activations
    on_gpu = need(per_device_train_batch_size=64, longest=Longest(800), device="cuda")
    assert on_gpu.activations > 10 * many.activations


def test_four_bits_leave_whole_what_t5_could_not_bear_to_lose() -> None:
    """Its "wo" matrices: 12 layers of 2,048 x 512; and its embeddings, which no model has in four
    bits."""
    shape = built_in_library()[T5].shape
    assert shape is not None
    whole = 4 * (12 * 2048 * 512 + shape.embedding_parameters)
    assert whole < need("qlora", T5).weights < need("lora", T5).weights / 1.3


def test_half_precision_halves_a_frozen_base_but_not_what_learns() -> None:
    whole, half = need("lora"), need("lora", precision="bf16")
    assert half.weights < 0.6 * whole.weights
    assert half.optimizer == whole.optimizer
    assert need("full", precision="bf16").weights == need("full").weights


def test_five_gigabytes_do_not_fit_into_four() -> None:
    large = need("lora", "meta-llama/Llama-3.2-1B-Instruct")
    assert large.total > 5e9
    assert not fits(large, 4_000_000_000)
    assert fits(large, 2 * large.total)
    # The system needs some of it as well.
    assert not fits(large, large.total)
