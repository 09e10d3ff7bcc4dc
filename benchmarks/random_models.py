"""Base models of real shapes with random weights, one token a byte: where no others can be had.

Memory and speed depend on shapes, not on what the weights say.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT = 2048
_LLAMA: dict[str, dict[str, int]] = {
    "smollm2-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    "llama-3.2-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}
SHAPES = (*_LLAMA, "phi-1.5", "t5-small")


def id_of(shape: str) -> str:
    """The base model's id, once `make` has made it."""
    return f"bench/{shape}-shape"


def make(arguments: dict[str, Any]) -> dict[str, Any]:
    """Prepare ``shape`` in ``data_dir`` where it is not there yet; its folder. For
    `harness.run_peer`: a process of its own leaves nothing on the GPU."""
    import torch
    from transformers import ByT5Tokenizer
    from transformers.utils import logging

    from shared.storage import Storage
    from trainer_service.base_models import is_prepared, prepare_base_model

    logging.disable_progress_bar()
    storage, shape = Storage(Path(arguments["data_dir"])), arguments["shape"]
    if is_prepared(storage, id_of(shape)):
        return {"base": str(storage.base_model(id_of(shape)))}
    device, dtype = "cpu", torch.float32
    if torch.cuda.is_available():
        device, dtype = "cuda", torch.bfloat16
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, torch.device(device):
        _maker(shape)().to(dtype).save_pretrained(folder)
        tokenizer = ByT5Tokenizer() if shape == "t5-small" else _byte_tokenizer()
        tokenizer.save_pretrained(folder)
        base = prepare_base_model(storage, id_of(shape), folder=Path(folder))
    return {"base": str(base)}


def _byte_tokenizer() -> Any:
    """For causal models, whose answers may hold tokens that are no bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {name: place for place, name in enumerate(names)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>")


def _maker(shape: str) -> Callable[[], Any]:
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PhiConfig,
        PhiForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    if shape == "t5-small":
        return lambda: T5ForConditionalGeneration(T5Config(decoder_start_token_id=0))
    if shape == "phi-1.5":
        return lambda: PhiForCausalLM(PhiConfig(vocab_size=51200, max_position_embeddings=CONTEXT))
    sizes = _LLAMA[shape]
    config = LlamaConfig(**sizes, max_position_embeddings=CONTEXT, tie_word_embeddings=True)
    return lambda: LlamaForCausalLM(config)
