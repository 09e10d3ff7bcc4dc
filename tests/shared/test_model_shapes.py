"""Shapes from configs of unknown origin, and what is computed from them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model_shapes import (
    ModelShape,
    adapter_parameters,
    parameter_count,
    shape_from_config,
)

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 259,
    "tie_word_embeddings": True,
}
T5: dict[str, Any] = {
    "model_type": "t5",
    "is_encoder_decoder": True,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 259,
    "feed_forward_proj": "gated-gelu",
}


def test_a_config_says_its_shape() -> None:
    shape = shape_from_config(LLAMA)
    assert shape is not None and shape.tied_embeddings and shape.gated_mlp
    assert (shape.head_size, shape.query_size, shape.key_value_size) == (8, 32, 16)
    untied = shape_from_config({**LLAMA, "tie_word_embeddings": False})
    assert untied is not None
    assert untied.embedding_parameters == 2 * shape.embedding_parameters


def test_an_encoder_decoder_has_as_many_decoder_layers_unless_it_says_otherwise() -> None:
    shape = shape_from_config(T5)
    assert shape is not None and (shape.num_decoder_layers, shape.gated_mlp) == (2, True)
    fewer = shape_from_config({**T5, "num_decoder_layers": 1})
    assert fewer is not None and fewer.num_decoder_layers == 1
    assert parameter_count(None, fewer) < parameter_count(None, shape)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": None}, {"hidden_size": 0}, {"hidden_size": True}, {"hidden_size": "32"},
        {"num_hidden_layers": 10**6}, {"vocab_size": 10**30}, {"intermediate_size": -1},
    ],
)  # fmt: skip
def test_a_config_that_leaves_out_or_makes_up_sizes_says_nothing(changes: dict[str, Any]) -> None:
    assert shape_from_config({**LLAMA, **changes}) is None


@given(
    st.dictionaries(
        st.sampled_from([*LLAMA, *T5]),
        st.none() | st.booleans() | st.integers() | st.sampled_from(["", "8"]),
    )
)
def test_any_config_gives_a_shape_or_none(config: dict[str, Any]) -> None:
    shape = shape_from_config(config)
    assert shape is None or parameter_count(None, shape) > 0


def test_an_adapter_grows_with_its_rank_and_its_modules() -> None:
    shape = ModelShape.model_validate(
        {name: value for name, value in LLAMA.items() if name in ModelShape.model_fields}
    )

    def count(rank: int, modules: Any) -> int:
        return adapter_parameters("LlamaForCausalLM", shape, rank=rank, target_modules=modules)

    assert count(8, ["q_proj"]) == 8 * (32 + 32) * 2
    assert count(16, "all-linear") == 2 * count(8, "all-linear")
    assert count(8, ["no_such"]) == 0
