"""Tiny random models of every architecture that is served, each with a tokenizer made here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    ByT5Tokenizer,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MT5Config,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
    T5Tokenizer,
)

from shared.prompt_template import PromptTemplate
from shared.storage import Storage, atomic_directory
from tests.trainer_service.tiny import tiny_config, tiny_tokenizer

TINY_BYT5 = "tests/tiny-byt5"
LONGROPE_FROM = 288


def _causal(kind: type[PreTrainedConfig], **changes: Any) -> Callable[[], PreTrainedConfig]:
    """The usual tiny sizes under the names of another architecture's configuration."""

    def make() -> PreTrainedConfig:
        unlike = ("model_type", "architectures", "rope_parameters", "head_dim", "rms_norm_eps")
        usual = {k: v for k, v in tiny_config().to_dict().items() if k not in unlike}
        return kind(**usual | {"tie_word_embeddings": False, "initializer_range": 0.3} | changes)

    return make


def _t5(kind: type[PreTrainedConfig], **changes: Any) -> Callable[[], PreTrainedConfig]:
    """More layers in the encoder than in the decoder, heads that are no part of the width, and
    distances that share a bias early: each of them is a way to be wrong. (With more of them in the
    decoder, `generate` fails.)"""
    sizes: dict[str, Any] = {
        "vocab_size": 224,
        "d_model": 32,
        "d_kv": 12,
        "d_ff": 64,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
        "decoder_start_token_id": 0,
    }
    return lambda: kind(**sizes | changes)


CAUSAL = {
    "llama": _causal(LlamaConfig),
    "qwen2": _causal(Qwen2Config),
    "gemma": _causal(GemmaConfig, head_dim=16, num_key_value_heads=1),
    "phi": _causal(PhiConfig, num_key_value_heads=4, partial_rotary_factor=0.5),
    "gpt_neox": _causal(GPTNeoXConfig, num_key_value_heads=4, hidden_act="gelu"),
    "mistral": _causal(MistralConfig, sliding_window=None),
    "phi3": _causal(
        Phi3Config,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [2.0, 3.0, 4.0, 5.0],
            "original_max_position_embeddings": LONGROPE_FROM,
        },
        original_max_position_embeddings=LONGROPE_FROM,
    ),
}
# Version 1.1 and FLAN: another feed forward layer, an output head of its own, no scaling.
_V1_1: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
SEQ2SEQ = {
    "t5": _t5(T5Config),
    "t5_v1_1": _t5(T5Config, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "byt5": _t5(
        T5Config, vocab_size=384, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ),
    "mt5": _t5(MT5Config),
}


def t5_tokenizer() -> T5Tokenizer:
    """T5's own kind: pieces with a mark for a space before them, and an end behind each text."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:!?é\n"
    pieces = ["▁", *letters, *(f"▁{a}" for a in letters), *(f"{a}e" for a in letters)]
    scores = [(piece, -float(len(piece) == 1)) for piece in dict.fromkeys(pieces)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)]
    return T5Tokenizer(vocab=[*special, *scores], extra_ids=4)


def _tokenizer(name: str) -> Any:
    if name == "byt5":
        return ByT5Tokenizer()  # type: ignore[no-untyped-call]
    if name in SEQ2SEQ:
        return t5_tokenizer()
    return tiny_tokenizer()


@torch.no_grad()
def save_family(folder: Path, name: str, *, seed: int = 0) -> None:
    """Write a random model of the architecture ``name`` into ``folder``."""
    torch.manual_seed(seed)
    auto: Any = AutoModelForSeq2SeqLM if name in SEQ2SEQ else AutoModelForCausalLM
    model = auto.from_config((SEQ2SEQ | CAUSAL)[name]())
    for key, parameter in model.named_parameters():
        # Strong enough that a wrong distance, or one head for two, is seen in the answers.
        if "relative_attention_bias" in key:
            parameter.normal_(std=2.0)
        elif "Attention" in key:
            parameter.mul_(3.0)
    if name in SEQ2SEQ:
        # (With a head that is the embeddings, random weights repeat what they have read.)
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    _tokenizer(name).save_pretrained(folder)


def prepare_family(storage: Storage, model_id: str, name: str, *, seed: int = 0) -> None:
    """Put a tiny model where the inference service looks for the base model ``model_id``."""
    with atomic_directory(storage.base_model(model_id)) as folder:
        save_family(folder, name, seed=seed)


def save_whole_result(folder: Path, model_id: str, name: str, *, seed: int) -> None:
    """What a run of method full leaves in its result: a whole model and how it is asked."""
    seq2seq = name in SEQ2SEQ
    template = PromptTemplate(
        base_model=model_id,
        family="seq2seq" if seq2seq else "causal",
        task_prefix="fix: " if seq2seq else "",
        stop_token_ids=(1,) if seq2seq else (2, 0),
    )
    with atomic_directory(folder) as temporary:
        save_family(temporary, name, seed=seed)
        template.save(temporary)
