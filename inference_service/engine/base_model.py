"""Loading a prepared base model so that many sequences and adapters can share it.

Knows nothing of the storage layout: it gets a folder. Nothing in that folder can make it run code.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from inference_service.engine.kv_cache import ATTENTION, SlotCache, attention_mask
from inference_service.engine.lora import LoraState, Projection
from shared.chat import Precision
from shared.errors import InvalidData

logger = logging.getLogger(__name__)

PROBE_TOKENS = 24
_CODE_KEYS = ("auto_map", "custom_pipelines", "_attn_implementation_internal")


@dataclass(eq=False)
class BaseModel:
    """A base model in memory: its layers, its tokenizer, and what ends its answers."""

    id: str
    model: PreTrainedModel
    tokenizer: Any
    context_length: int
    stop_token_ids: tuple[int, ...]
    default_temperature: float
    default_top_p: float
    lora: LoraState = field(default_factory=LoraState)
    projections: dict[str, Projection] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def precision(self) -> str:
        return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]

    @property
    def chat_template(self) -> str:
        """The default one where the tokenizer has several by name; empty where there is none."""
        found = self.tokenizer.chat_template
        return str((found.get("default") if isinstance(found, dict) else found) or "")

    def decode(self, ids: Any) -> str:
        """Text of token ids, without special tokens; the tokenizer's own, minus its wrapping."""
        return str(self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=True))

    def forward(self, ids: Tensor, positions: Tensor, cache: SlotCache, first_row: int) -> Tensor:
        """Logits of the last of the new tokens of each row; ``ids`` is [rows, new tokens]."""
        cache.aim(first_row, positions)
        output = self.model(
            input_ids=ids,
            attention_mask=attention_mask(positions, self.dtype),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cast(Tensor, output.logits)[:, -1]


def choose_precision(wanted: Precision) -> tuple[torch.device, torch.dtype]:
    """Device and number format. "auto" is what adapters were trained over: on CPUs fp32, which is
    also many times faster than bf16 where the CPU has no instructions for that; on GPUs bf16 where
    the hardware computes it, else fp16. (torch also offers a bf16 that it emulates, slowly.)"""
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        half = torch.bfloat16 if native else torch.float16
        dtype = {"auto": half, "fp32": torch.float32, "bf16": torch.bfloat16}[wanted]
        return torch.device("cuda"), dtype
    return torch.device("cpu"), torch.bfloat16 if wanted == "bf16" else torch.float32


@torch.inference_mode()
def load_base_model(folder: Path, model_id: str, precision: Precision) -> BaseModel:
    """Load a base model from safetensors and prove that this engine computes what it computes."""
    _check_config(folder, model_id)
    device, dtype = choose_precision(precision)
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    # A tokenizer file may ask for both; training sets them anew for each text, to none.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except ValueError as error:
        # What transformers says of an architecture whose attention is its own, without its advice.
        why = str(error).partition(". ")[0].removesuffix(".")
        raise InvalidData(f"{model_id} cannot be served by this engine: {why}.") from error
    nn.Module.to(nn.Module.eval(model), device)
    base = BaseModel(
        id=model_id,
        model=model,
        tokenizer=tokenizer,
        context_length=_context_length(model, model_id),
        stop_token_ids=_stop_token_ids(model, tokenizer),
        default_temperature=_default(model, "temperature", 0.0),
        default_top_p=_default(model, "top_p", 1.0),
    )
    probe = torch.arange(1, PROBE_TOKENS + 1, device=device)[None] % model.config.vocab_size
    expected = model(input_ids=probe, use_cache=False).logits[0, -2:]
    _replace_linears(base)
    model.set_attn_implementation(ATTENTION)
    _compare(base, probe, expected)
    return base


def _check_config(folder: Path, model_id: str) -> None:
    """Refuse what could run code or read files outside the folder, before any library sees it."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind, suspicious = config["model_type"], [key for key in _CODE_KEYS if key in config]
        shards = [
            name
            for index in folder.glob("*.index.json")
            for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidData(f"The configuration of {model_id} cannot be read.") from error
    if suspicious or any(Path(name).name != name for name in shards):
        raise InvalidData(f"{model_id} is refused: its configuration asks for code or other files.")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise InvalidData(f"{model_id} ({kind}) is not a causal language model.")


def _context_length(model: PreTrainedModel, model_id: str) -> int:
    length = int(getattr(model.config, "max_position_embeddings", 2048))
    window = getattr(model.config, "sliding_window", None)
    # Without a list of layers, a window is every layer's. (Where a configuration can turn its
    # window off, transformers has then set it to none.)
    every = "sliding_attention" if window else "full_attention"
    kinds = set(getattr(model.config, "layer_types", None) or [every])
    if not kinds <= {"full_attention", "sliding_attention"}:
        raise InvalidData(f"{model_id} has layers that this engine does not know: {sorted(kinds)}.")
    # Within its window a sliding layer sees everything, as a full one does.
    return min(length, int(window)) if window and "sliding_attention" in kinds else length


def _stop_token_ids(model: PreTrainedModel, tokenizer: Any) -> tuple[int, ...]:
    found = getattr(model.generation_config, "eos_token_id", None)
    ids = list(found) if isinstance(found, list) else [found]
    return tuple(dict.fromkeys(i for i in (*ids, tokenizer.eos_token_id) if i is not None))


def _default(model: PreTrainedModel, name: str, greedy: float) -> float:
    """The model's own default, as `generate` would use it: greedy unless it asks for sampling."""
    config = model.generation_config
    value = getattr(config, name, None)
    return float(value) if getattr(config, "do_sample", False) and value is not None else greedy


def _replace_linears(base: BaseModel) -> None:
    head = base.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    linears = [
        (name, module)
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    for name, linear in linears:
        parent, _, child = name.rpartition(".")
        projection = Projection(linear, name, base.lora)
        setattr(base.model.get_submodule(parent), child, projection)
        base.projections[name] = projection
        linear.weight = nn.Parameter(linear.weight.new_empty(0), requires_grad=False)


def _compare(base: BaseModel, probe: Tensor, expected: Tensor) -> None:
    """Slots, masks and own layers must give the model's own logits, in a prompt and in a step."""
    cache = SlotCache(base.model.config, base.dtype, base.device)
    cache.reserve(1, PROBE_TOKENS)
    positions = torch.arange(PROBE_TOKENS, device=base.device)[None]
    try:
        first = base.forward(probe[:, :-1], positions[:, :-1], cache, 0)
        second = base.forward(probe[:, -1:], positions[:, -1:], cache, 0)
    except (ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise _unservable(base, "does not work with its cache") from error
    difference = float((torch.cat([first, second]) - expected).abs().max())
    scale = float(expected.abs().max())
    if not difference <= (1e-3 if base.dtype == torch.float32 else 5e-2) * max(scale, 1.0):
        raise _unservable(base, "gives other results here than in transformers")
    logger.info("loaded %s in %s; largest difference %.1e", base.id, base.precision, difference)


def _unservable(base: BaseModel, why: str) -> InvalidData:
    kind = base.model.config.model_type
    return InvalidData(
        f"{base.id} cannot be served by this engine: its architecture ({kind}) {why}."
    )
