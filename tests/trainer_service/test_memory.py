"""The memory estimate against what the trainer is and does: its constants, the models that it
loads, and what autograd keeps of a pass."""

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
    T5ForConditionalGeneration,
)

from shared import memory, spread
from shared.hyperparameters import resolve_hyperparameters
from shared.model_shapes import (
    adapter_parameters,
    linears,
    parameter_count,
    shape_from_config,
)
from shared.runs import FineTuneSpec, Hyperparameters, Method
from trainer_service import data_parallel, evaluating, head_loss, optimization
from trainer_service.adapters import add_adapter, learn_whole
from trainer_service.fused_layers import fuse_layers
from trainer_service.modeling import trainable_parameters
from trainer_service.supervised_loss import loss_of

SIZES: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
T5_SIZES: dict[str, Any] = {
    "vocab_size": 259, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "num_decoder_layers": 3, "decoder_start_token_id": 0,
}  # fmt: skip
CONFIGS: list[PreTrainedConfig] = [
    LlamaConfig(**SIZES, tie_word_embeddings=True),
    LlamaConfig(**SIZES, tie_word_embeddings=False),
    Qwen2Config(**SIZES),
    GemmaConfig(**SIZES, head_dim=16),
    PhiConfig(**SIZES),
    Phi3Config(**SIZES),
    GPTNeoXConfig(**{name: size for name, size in SIZES.items() if "key_value" not in name}),
    T5Config(**T5_SIZES),
    T5Config(**T5_SIZES, feed_forward_proj="gated-gelu"),
]


def build(config: PreTrainedConfig) -> Any:
    torch.manual_seed(0)
    if config.is_encoder_decoder:
        return T5ForConditionalGeneration(config)
    return AutoModelForCausalLM.from_config(config)


def described(model: Any) -> memory.Model:
    shape = shape_from_config(model.config.to_dict())
    assert shape is not None
    family: Any = "seq2seq" if model.config.is_encoder_decoder else "causal"
    return memory.Model(shape, type(model).__name__, family)


def numbers(family: Any) -> Hyperparameters:
    spec = FineTuneSpec(base_model="x", dataset_id="x", lora_r=4)
    return resolve_hyperparameters(spec, examples=100, context_length=512, family=family)


def name_of(config: PreTrainedConfig) -> str:
    return f"{config.model_type}-{config.tie_word_embeddings}"


def test_the_estimate_knows_the_trainers_constants() -> None:
    assert memory.CPU_PASS_TOKENS == optimization.CPU_PASS_TOKENS
    assert memory.EVAL_PASS_TOKENS == evaluating.EVAL_PASS_TOKENS
    assert memory.HEAD_CHUNK == head_loss.CHUNK
    assert spread.BUCKET == data_parallel.BUCKET
    assert (memory.SAMPLES, memory.SAMPLE_TOKENS) == (
        evaluating.SAMPLES,
        evaluating.SAMPLE_TOKENS,
    )


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_parameters_and_matrices_are_those_of_the_real_model(config: PreTrainedConfig) -> None:
    model = build(config)
    known = described(model)
    assert parameter_count(known.architecture, known.shape) == model.num_parameters()
    real = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    }
    assert {linear.name for linear in linears(known.architecture, known.shape)} == real
    adapted = add_adapter(model, numbers(known.family), seed=1)
    assert adapter_parameters(
        known.architecture, known.shape, rank=4, target_modules="all-linear"
    ) == sum(value.numel() for value in trainable_parameters(adapted).values())


def kept_bytes(model: Any, *batch: torch.Tensor) -> int:
    """What autograd keeps of a pass beside the weights."""
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(model)(*batch)
    return sum(
        tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights
    )


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_activations_are_what_autograd_keeps(family: Any, method: Method) -> None:
    """Of models with the proportions of real ones, so that the large things count."""
    tokens, target = 128, 32
    ids = torch.randint(1, 200, (1, tokens))
    if family == "causal":
        sizes = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 3}
        model = build(LlamaConfig(**(SIZES | sizes | {"num_key_value_heads": 1})))
        batch: tuple[torch.Tensor, ...] = (ids, ids)
        longest = memory.Longest(tokens)
    else:
        model = build(T5Config(**(T5_SIZES | {"d_model": 256, "d_kv": 64, "d_ff": 1024})))
        batch = (ids, torch.ones_like(ids), torch.randint(1, 200, (1, target)))
        longest = memory.Longest(tokens, target)
    known, decided = described(model), numbers(family)
    fuse_layers(model)
    learn = learn_whole if method == "full" else add_adapter
    learn(model, decided, seed=1)
    one_row = decided.model_copy(update={"per_device_train_batch_size": 1})
    need = memory.estimate(known, method, one_row, device="cpu", precision="fp32", longest=longest)
    kept = kept_bytes(model, *batch)
    # Beside what is kept there are the working set of a layer, logits and the allocator's holes.
    assert kept < need.activations < 3 * kept
