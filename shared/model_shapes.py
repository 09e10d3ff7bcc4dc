"""What a model's shape says of its size: matrices and parameters. Arithmetic; loads nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_LAYERS = 1_000
LARGEST_SIZE = 10_000_000
T5_BUCKETS = 32


class ModelShape(BaseModel):
    """The sizes by which memory is estimated, under the names of the models' own configs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden_size: int = Field(ge=1, le=LARGEST_SIZE)
    num_hidden_layers: int = Field(ge=1, le=MOST_LAYERS, description="Of the encoder, for seq2seq.")
    num_decoder_layers: int | None = Field(
        None, ge=1, le=MOST_LAYERS, description="Of the decoder, for seq2seq."
    )
    num_attention_heads: int = Field(ge=1, le=LARGEST_SIZE)
    num_key_value_heads: int | None = Field(None, ge=1, le=LARGEST_SIZE)
    head_dim: int | None = Field(None, ge=1, le=LARGEST_SIZE)
    intermediate_size: int = Field(ge=1, le=LARGEST_SIZE)
    vocab_size: int = Field(ge=1, le=LARGEST_SIZE)
    gated_mlp: bool = True
    tied_embeddings: bool = True

    @property
    def head_size(self) -> int:
        return self.head_dim or max(1, self.hidden_size // self.num_attention_heads)

    @property
    def query_size(self) -> int:
        """Width of all heads together."""
        return self.num_attention_heads * self.head_size

    @property
    def key_value_size(self) -> int:
        return (self.num_key_value_heads or self.num_attention_heads) * self.head_size

    @property
    def embedding_parameters(self) -> int:
        """Of the input embeddings and, where it has weights of its own, the output head."""
        return self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)


@dataclass(frozen=True)
class Linear:
    """``count`` matrices of one kind that lie inside the layers."""

    name: str
    inputs: int
    outputs: int
    count: int

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs * self.count


Kind = Literal["llama", "phi", "phi3", "gpt_neox", "t5"]
_KINDS: dict[str, Kind] = {
    "Phi3ForCausalLM": "phi3",
    "PhiForCausalLM": "phi",
    "GPTNeoXForCausalLM": "gpt_neox",
    "T5ForConditionalGeneration": "t5",
}


def _kind(architecture: str | None, shape: ModelShape) -> Kind:
    """Whose layout the architecture has; an unknown one is taken for the most common."""
    if shape.num_decoder_layers is not None:
        return "t5"
    return _KINDS.get(architecture or "", "llama")


def linears(architecture: str | None, shape: ModelShape) -> list[Linear]:
    """The matrices over which "all-linear" lays an adapter, by the names that PEFT goes by."""
    kind = _kind(architecture, shape)
    if kind == "t5":
        return _t5_linears(shape)
    hidden, query, inner = shape.hidden_size, shape.query_size, shape.intermediate_size
    sizes = {
        "gpt_neox": [
            ("query_key_value", hidden, 3 * query),
            ("dense", query, hidden),
            ("dense_h_to_4h", hidden, inner),
            ("dense_4h_to_h", inner, hidden),
        ],
        "phi3": [
            ("qkv_proj", hidden, query + 2 * shape.key_value_size),
            ("o_proj", query, hidden),
            ("gate_up_proj", hidden, 2 * inner),
            ("down_proj", inner, hidden),
        ],
        "phi": [
            *_attention(shape),
            ("dense", query, hidden),
            ("fc1", hidden, inner),
            ("fc2", inner, hidden),
        ],
        "llama": [
            *_attention(shape),
            ("o_proj", query, hidden),
            *([("gate_proj", hidden, inner)] if shape.gated_mlp else []),
            ("up_proj", hidden, inner),
            ("down_proj", inner, hidden),
        ],
    }[kind]
    return [Linear(*size, count=shape.num_hidden_layers) for size in sizes]


def _attention(shape: ModelShape) -> list[tuple[str, int, int]]:
    hidden = shape.hidden_size
    return [
        ("q_proj", hidden, shape.query_size),
        ("k_proj", hidden, shape.key_value_size),
        ("v_proj", hidden, shape.key_value_size),
    ]


def _t5_linears(shape: ModelShape) -> list[Linear]:
    hidden, query, inner = shape.hidden_size, shape.query_size, shape.intermediate_size
    layers = shape.num_hidden_layers + (shape.num_decoder_layers or 0)
    # A decoder's layer attends twice: to itself and to the encoder.
    attentions = layers + (shape.num_decoder_layers or 0)
    into = ("wi_0", "wi_1") if shape.gated_mlp else ("wi",)
    return [
        *(Linear(name, hidden, query, attentions) for name in ("q", "k", "v")),
        Linear("o", query, hidden, attentions),
        *(Linear(name, hidden, inner, layers) for name in into),
        Linear("wo", inner, hidden, layers),
    ]


def parameter_count(architecture: str | None, shape: ModelShape) -> int:
    """All parameters: exact for the architectures of the built-in library."""
    matrices = sum(linear.parameters for linear in linears(architecture, shape))
    small = _small_parameters(architecture, shape)
    return shape.embedding_parameters + matrices + small


def _small_parameters(architecture: str | None, shape: ModelShape) -> int:
    """Norms, biases and position tables."""
    kind = _kind(architecture, shape)
    hidden, layers = shape.hidden_size, shape.num_hidden_layers
    if kind == "t5":
        decoder = shape.num_decoder_layers or 0
        tables = 2 * T5_BUCKETS * shape.num_attention_heads
        return hidden * (2 * layers + 3 * decoder + 2) + tables
    attention = shape.query_size + 2 * shape.key_value_size
    mlp = shape.intermediate_size + hidden
    if kind == "gpt_neox":
        return layers * (4 * hidden + attention + hidden + mlp) + 2 * hidden
    if kind == "phi":
        return layers * (2 * hidden + attention + hidden + mlp) + 2 * hidden + shape.vocab_size
    biases = attention if architecture == "Qwen2ForCausalLM" else 0
    return layers * (2 * hidden + biases) + hidden


def adapter_parameters(
    architecture: str | None,
    shape: ModelShape,
    *,
    rank: int,
    target_modules: Iterable[str] | Literal["all-linear"],
) -> int:
    """What a LoRA adapter of ``rank`` has to learn."""
    chosen = None if target_modules == "all-linear" else set(target_modules)
    return sum(
        rank * (linear.inputs + linear.outputs) * linear.count
        for linear in linears(architecture, shape)
        if chosen is None or linear.name in chosen
    )


# A config's own names for what `ModelShape` calls otherwise.
_T5_NAMES = {
    "d_model": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "d_kv": "head_dim",
    "d_ff": "intermediate_size",
}
_UNGATED = {"phi", "gpt_neox", "gpt2", "opt", "starcoder2"}


def shape_from_config(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a ``config.json`` tells of; None where it leaves out or makes up sizes."""
    seq2seq = config.get("is_encoder_decoder") is True or config.get("model_type") == "t5"
    names = {name: name for name in ModelShape.model_fields}
    if seq2seq:
        names = {"vocab_size": "vocab_size", "num_decoder_layers": "num_decoder_layers"} | _T5_NAMES
    found = {
        ours: value
        for theirs, ours in names.items()
        if isinstance(value := config.get(theirs), int) and not isinstance(value, bool)
    }
    if seq2seq:
        if "num_decoder_layers" not in found and "num_hidden_layers" in found:
            found["num_decoder_layers"] = found["num_hidden_layers"]
        gated = str(config.get("feed_forward_proj", "relu")).startswith("gated")
    else:
        found.pop("num_decoder_layers", None)
        gated = config.get("model_type") not in _UNGATED
    # transformers' own default where a config says nothing.
    untied = config.get("model_type") in {"phi", "gpt_neox", "mistral", "llama", "qwen2"}
    tied = config.get("tie_word_embeddings", not untied)
    try:
        return ModelShape.model_validate(
            found | {"gated_mlp": gated, "tied_embeddings": tied is True}
        )
    except ValidationError:
        return None
