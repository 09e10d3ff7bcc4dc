"""The two model families that this engine serves, and what stands for each."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from inference_service.engine import causal, seq2seq
from inference_service.engine.kv_cache import ATTENTION
from inference_service.engine.rows import Rows
from shared.runs import Family

if TYPE_CHECKING:
    from inference_service.engine.base_model import BaseModel

# (Of no common type that says more: the classes of transformers load by name.)
LOADERS: dict[Family, Any] = {"causal": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}


def rows_of(base: "BaseModel") -> Rows:
    """Empty rows for the sequences of one base model."""
    return causal.CausalRows(base) if base.family == "causal" else seq2seq.Seq2SeqRows(base)


def own_logits(base: "BaseModel") -> Tensor:
    """What the model as transformers has loaded it says to a probe: [tokens, vocabulary]."""
    if base.family == "causal":
        return causal.own_logits(base.model)
    return seq2seq.own_logits(base.model, base.id)


def use_slots(base: "BaseModel") -> None:
    """Let attention read from slots where there are any: an encoder has none."""
    decoder: Any = base.model if base.family == "causal" else base.model.decoder
    decoder.set_attn_implementation(ATTENTION)


def engine_logits(base: "BaseModel") -> Tensor:
    """What this engine says to the same probe."""
    if base.family == "causal":
        return causal.engine_logits(base)
    return seq2seq.Seq2SeqRows(base).probe()
