"""A tiny random Llama with a byte-level tokenizer, prepared as the trainer prepares base models."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from shared.storage import Storage, atomic_directory

TINY_MODEL = "tests/tiny-llama"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def tiny_tokenizer(chat_template: str = CHATML) -> PreTrainedTokenizerFast:
    """One token a byte, and the three special tokens of ChatML first."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_config(**changes: Any) -> LlamaConfig:
    settings: dict[str, Any] = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        # Larger than usual, so that an adapter over random weights has something to work with.
        "initializer_range": 0.1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
    return LlamaConfig(**(settings | changes))


def save_tiny_model(folder: Path, *, seed: int = 0, **config: Any) -> None:
    """Write config, weights, tokenizer and generation config into ``folder``."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(tiny_config(**config))
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def prepare_tiny_model(
    storage: Storage, model_id: str = TINY_MODEL, *, seed: int = 0, **config: Any
) -> Path:
    """Put a tiny model where the trainer and the inference service look for ``model_id``."""
    folder = storage.base_model(model_id)
    with atomic_directory(folder) as temporary:
        save_tiny_model(temporary, seed=seed, **config)
    return folder
