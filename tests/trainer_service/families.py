"""Tiny random models of every architecture that is trained, prepared as base models are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    ByT5Tokenizer,
    GemmaConfig,
    GenerationConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MT5Config,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
)

from shared.storage import Storage, atomic_directory
from tests.trainer_service.tiny import tiny_tokenizer

WIDTH, LAYERS, HEADS = 48, 2, 4
_T5_SPECIAL = ("<pad>", "</s>", "<unk>")


def _decoder(kind: type[PreTrainedConfig], **changes: Any) -> PreTrainedConfig:
    settings: dict[str, Any] = {
        "vocab_size": 259,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return kind(**(settings | changes))


def _t5(kind: type[PreTrainedConfig] = T5Config, **changes: Any) -> PreTrainedConfig:
    settings: dict[str, Any] = {
        "vocab_size": 259,
        "d_model": WIDTH,
        "d_kv": WIDTH // HEADS,
        "d_ff": 2 * WIDTH,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "dropout_rate": 0.0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    return kind(**(settings | changes))


def _later_t5(**changes: Any) -> PreTrainedConfig:
    """T5 v1.1, FLAN-T5, ByT5: a gated layer, and a head of its own."""
    return _t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **changes)


CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: _decoder(LlamaConfig, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2": lambda: _decoder(Qwen2Config, num_key_value_heads=2),
    "gemma": lambda: _decoder(GemmaConfig, num_key_value_heads=1, head_dim=16),
    "phi": lambda: _decoder(PhiConfig, partial_rotary_factor=0.5),
    "gpt_neox": lambda: _decoder(GPTNeoXConfig, tie_word_embeddings=False),
    "t5": _t5,
    "t5_v1_1": _later_t5,
    "byt5": lambda: _later_t5(vocab_size=384, num_decoder_layers=1),
}
# Close relatives of those.
OTHERS: dict[str, Callable[[], PreTrainedConfig]] = {
    "mistral": lambda: _decoder(MistralConfig, num_key_value_heads=2),
    "qwen3": lambda: _decoder(Qwen3Config, num_key_value_heads=2, head_dim=16),
    "phi3": lambda: _decoder(Phi3Config, num_key_value_heads=2),
    "mt5": lambda: _later_t5(kind=MT5Config),
}


def t5_tokenizer() -> PreTrainedTokenizerBase:
    """One token a byte; puts T5's end mark behind every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*_T5_SPECIAL, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in _T5_SPECIAL])
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def family_tokenizer(name: str) -> PreTrainedTokenizerBase:
    if name == "byt5":
        return ByT5Tokenizer()
    return t5_tokenizer() if "t5" in name else tiny_tokenizer()


def save_family_model(folder: Path, name: str, *, seed: int = 0, dropout: float = 0.0) -> None:
    """Write config, random weights, tokenizer and generation config of an architecture."""
    torch.manual_seed(seed)
    config: Any = (CONFIGS | OTHERS)[name]()
    if config.is_encoder_decoder:
        config.dropout_rate = dropout
    kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = kind.from_config(config)
    if name in ("t5_v1_1", "byt5", "mt5"):
        # A head of its own: transformers ties it until it reads weights that differ.
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    if config.is_encoder_decoder:
        model.generation_config = GenerationConfig(
            eos_token_id=1, pad_token_id=0, decoder_start_token_id=0
        )
    else:
        model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    family_tokenizer(name).save_pretrained(folder)


def prepare_family(storage: Storage, name: str, *, seed: int = 0, dropout: float = 0.0) -> Path:
    """Put a tiny model of the architecture where ``tests/NAME`` is looked for."""
    folder = storage.base_model(f"tests/{name}")
    with atomic_directory(folder) as temporary:
        save_family_model(temporary, name, seed=seed, dropout=dropout)
    return folder
