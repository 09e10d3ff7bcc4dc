"""How much memory a training takes, computed from the model's shape; loads and measures nothing.

The arithmetic follows the trainer: fp32 on a CPU in passes of a limited number of tokens, logits
for a chunk of places at a time, fp32 adapters over a frozen base, NF4 with double quantisation
for the matrices inside the layers alone.
"""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, computed_field

from shared.hardware import DeviceKind, Precision
from shared.model_library import LibraryEntry
from shared.model_shapes import ModelShape, adapter_parameters, linears, parameter_count
from shared.runs import Family, Hyperparameters, Method

# What the trainer does; a test holds these against its own constants.
CPU_PASS_TOKENS = 1024
EVAL_PASS_TOKENS = 2048
HEAD_CHUNK = 256
SAMPLES = 2
SAMPLE_TOKENS = 48

# Calibration. Measured anew with `python -m benchmarks.memory_estimate`, which prints the error of
# each part that these stand for; the real peaks are in docs/benchmarks.md.
# A process that has imported torch, transformers and peft and read a tokenizer.
OVERHEAD: dict[DeviceKind, int] = {"cpu": 500_000_000, "cuda": 800_000_000, "mps": 500_000_000}
# What the allocator holds beside what lives: holes between blocks that came and went.
HEAP: dict[DeviceKind, float] = {"cpu": 1.35, "cuda": 1.15, "mps": 1.15}
# Tensors that live only inside one layer's backward pass, as shares of that layer's activations.
WORKING_LAYERS = 1.5

BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp16": 2}
# NF4: half a byte, and the scales of its blocks, which are quantised themselves.
NF4_BYTES = 0.5 + 0.127 / 8
_ADAM_BYTES = 8
# What a layer keeps of its input and of what its two norms make of it, in each half of it. Of a
# whole model that learns under autocast: in fp32, and a rounded copy for each product.
_HALF, _WHOLE_HALF = 2.0, 5.5
_SILU = ("Llama", "Mistral", "Qwen")


class MemoryEstimate(BaseModel):
    """Bytes by purpose. Activations and the evaluation follow one another: the larger counts."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    weights: int
    gradients: int
    optimizer: int
    activations: int
    evaluation_peak: int
    overhead: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        steady = self.weights + self.gradients + self.optimizer + self.overhead
        return steady + max(self.activations, self.evaluation_peak)


# Of a device's memory that a training may plan with: the system and others need some of it.
USABLE_SHARE = 0.9


def fits(need: MemoryEstimate, memory_bytes: int) -> bool:
    return need.total <= USABLE_SHARE * memory_bytes


class Longest(NamedTuple):
    """Tokens of the longest row; for seq2seq of the longest source and the longest target."""

    row: int
    target: int = 0


class Model(NamedTuple):
    """What is trained."""

    shape: ModelShape
    architecture: str | None = None
    family: Family = "causal"


def model_of(entry: LibraryEntry) -> Model | None:
    """None where the library does not know the model's shape."""
    return None if entry.shape is None else Model(entry.shape, entry.architecture, entry.family)


def estimate(
    model: Model,
    method: Method,
    numbers: Hyperparameters,
    *,
    device: DeviceKind,
    precision: Precision,
    longest: Longest | None = None,
) -> MemoryEstimate:
    """What a run of ``numbers`` takes at its peak. ``longest``: of the rows at hand, where they
    are known; else rows are taken to be as long as they may be."""
    limit = Longest(numbers.max_length, numbers.max_target_length)
    rows = longest or limit
    learned = trainable_parameters(model, method, numbers)
    return MemoryEstimate(
        weights=_weights(model, method, precision) + (0 if method == "full" else 4 * learned),
        gradients=4 * learned,
        optimizer=_ADAM_BYTES * learned,
        activations=_activations(model, method, numbers, device, precision, rows),
        evaluation_peak=_evaluation(model, device, precision, rows),
        overhead=OVERHEAD[device],
    )


def trainable_parameters(model: Model, method: Method, numbers: Hyperparameters) -> int:
    if method == "full":
        return parameter_count(model.architecture, model.shape)
    return adapter_parameters(
        model.architecture,
        model.shape,
        rank=numbers.lora_r,
        target_modules=numbers.target_modules,
    )


def _weights(model: Model, method: Method, precision: Precision) -> int:
    parameters = parameter_count(model.architecture, model.shape)
    if method == "full":
        # Kept in fp32 at any precision: small steps of a bf16 weight are lost in rounding.
        return 4 * parameters
    if method == "lora":
        return BYTES[precision] * parameters
    # (T5's "wo" stays whole under QLoRA.)
    matrices = linears(model.architecture, model.shape)
    quantized = sum(each.parameters for each in matrices if each.name != "wo")
    rest = BYTES[precision] * (parameters - quantized)
    return round(NF4_BYTES * quantized) + rest


def _activations(
    model: Model,
    method: Method,
    numbers: Hyperparameters,
    device: DeviceKind,
    precision: Precision,
    longest: Longest,
) -> int:
    """What the largest pass keeps for its backward pass, and what that works with."""
    size = longest.row + longest.target if model.family == "seq2seq" else longest.row
    rows = numbers.per_device_train_batch_size
    encoder = rows * longest.row
    if device == "cpu":
        rows = min(rows, max(1, CPU_PASS_TOKENS // size))
        # A causal model's rows are packed: shorter ones fill a pass up.
        packed = min(encoder, max(CPU_PASS_TOKENS, size))
        encoder = rows * longest.row if model.family == "seq2seq" else packed
    decoder = rows * longest.target
    width = _layer_widths(model, precision, whole=method == "full")
    layers = model.shape.num_hidden_layers
    values = layers * width.layer * encoder + _attention_values(model, rows, longest)
    working = WORKING_LAYERS * width.layer * encoder
    if model.family == "seq2seq":
        below = (width.decoder_layer * decoder + width.cross * encoder) * _decoder_layers(model)
        values += below
        working = max(working, WORKING_LAYERS * width.decoder_layer * decoder)
    if numbers.gradient_checkpointing:
        kept = model.shape.hidden_size * (layers * encoder + _decoder_layers(model) * decoder)
        values = kept + width.layer * max(encoder, decoder)
    learned = decoder if model.family == "seq2seq" else encoder
    total = (values + working) * BYTES[precision] + _logits(model, learned)
    if method == "full":
        # The head learns too: its gradient is made beside the one that is kept.
        total += 4 * model.shape.vocab_size * model.shape.hidden_size
        total += rounded_copies(model, precision)
    return round(HEAP[device] * total)


def rounded_copies(model: Model, precision: Precision) -> int:
    """Bytes of what autocast keeps of a whole model that learns in half precision: a copy of each
    matrix, from the way there to the way back."""
    if precision == "fp32":
        return 0
    matrices = sum(each.parameters for each in linears(model.architecture, model.shape))
    return BYTES[precision] * (model.shape.vocab_size * model.shape.hidden_size + matrices)


class _Widths(NamedTuple):
    """Values that one layer keeps of each token: of its own, and of those that it looks at."""

    layer: float
    decoder_layer: float
    cross: int


def _layer_widths(model: Model, precision: Precision, *, whole: bool) -> _Widths:
    """Counted with autograd's hooks: input and output of both halves of a layer, queries, keys,
    values and what attention makes of them, and the inside of the MLP."""
    shape = model.shape
    attention = 2 * shape.query_size + 2 * shape.key_value_size
    inner = _mlp_factors(model) * shape.intermediate_size
    half = (_WHOLE_HALF if whole and precision != "fp32" else _HALF) * shape.hidden_size
    if model.family == "seq2seq":
        # T5 learns with dropout: each half keeps what was dropped.
        half += shape.hidden_size
    return _Widths(
        layer=2 * half + attention + inner,
        decoder_layer=3 * half + attention + 2 * shape.query_size + inner,
        cross=2 * shape.key_value_size,
    )


def _mlp_factors(model: Model) -> int:
    """Values of the MLP's own width: its inputs and outputs, where it is gated both factors, and
    with dropout what it lets through. The trainer's own SiLU gates keep less."""
    gated = model.shape.gated_mlp
    if model.family == "seq2seq":
        return 5 if gated else 3
    if gated and (model.architecture or "").startswith(_SILU):
        return 3
    return 4 if gated else 2


def _decoder_layers(model: Model) -> int:
    return model.shape.num_decoder_layers or 0


def _attention_values(model: Model, rows: int, longest: Longest) -> int:
    """T5 adds a learned bias to its scores and drops some, so that it keeps them three times;
    others never write them down."""
    if model.family != "seq2seq":
        return 0
    scores = model.shape.num_hidden_layers * longest.row**2
    scores += _decoder_layers(model) * longest.target * (longest.target + longest.row)
    return 3 * rows * model.shape.num_attention_heads * scores


def _logits(model: Model, learned: int) -> int:
    """Logits and their gradient, in fp32, for the places of a chunk."""
    places = min(HEAD_CHUNK, learned)
    return 2 * 4 * places * model.shape.vocab_size


def _evaluation(model: Model, device: DeviceKind, precision: Precision, longest: Longest) -> int:
    """Validation passes keep one layer's values; answers are written over a cache of keys and
    values."""
    size = max(1, longest.row + longest.target)
    tokens = size * max(1, EVAL_PASS_TOKENS // size)
    width = _layer_widths(model, precision, whole=False)
    passing = (width.layer * tokens) * BYTES[precision] + _logits(model, tokens)
    layers = model.shape.num_hidden_layers + _decoder_layers(model)
    cached = 2 * model.shape.key_value_size * layers * SAMPLES * (longest.row + SAMPLE_TOKENS)
    writing = cached * BYTES[precision] + 2 * 4 * SAMPLES * model.shape.vocab_size
    return round(HEAP[device] * max(passing, writing))
