"""Loading a model so that many sequences and adapters can share it.

Knows nothing of the storage layout: it gets a folder. Nothing in that folder can make it run code.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from inference_service.engine import families, model_config
from inference_service.engine.codec import Codec
from inference_service.engine.lora import LoraState, Projection
from shared.chat import Precision
from shared.errors import InvalidData
from shared.runs import Family

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class BaseModel:
    """A whole model in memory: its layers, its tokenizer, and what ends its answers.

    ``context_length`` counts prompt and answer together; for seq2seq, each of them.
    """

    id: str
    family: Family
    model: PreTrainedModel
    tokenizer: Any
    codec: Codec
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

    @property
    def longest_prompt(self) -> int:
        """Tokens of a prompt that leaves room for one token of an answer."""
        return self.context_length - (self.family == "causal")

    def answer_room(self, prompt_tokens: int) -> int:
        """Tokens that an answer to such a prompt may have."""
        return self.context_length - (prompt_tokens if self.family == "causal" else 0)


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
    """Load a model from safetensors and prove that this engine computes what it computes."""
    # cuDNN's attention, which torch prefers on Hopper, plans anew for each length: tens of
    # milliseconds a token. The others take any length.
    torch.backends.cuda.enable_cudnn_sdp(False)
    family = model_config.checked_family(folder, model_id)
    device, dtype = choose_precision(precision)
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    try:
        model = families.LOADERS[family].from_pretrained(
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
        family=family,
        model=model,
        tokenizer=tokenizer,
        codec=Codec(tokenizer),
        context_length=model_config.context_length(model, family, model_id),
        stop_token_ids=model_config.stop_token_ids(model, tokenizer),
        default_temperature=model_config.sampling_default(model, "temperature", 0.0),
        default_top_p=model_config.sampling_default(model, "top_p", 1.0),
    )
    expected = families.own_logits(base)
    _replace_linears(base)
    families.use_slots(base)
    _compare(base, expected)
    return base


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


def _compare(base: BaseModel, expected: Tensor) -> None:
    """Slots, masks and own layers must give the model's own logits, in a prompt and in a step."""
    try:
        found = families.engine_logits(base)
    except (ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise _unservable(base, "does not work with its cache") from error
    difference = float((found - expected).abs().max())
    scale = float(expected.abs().max())
    if not difference <= (1e-3 if base.dtype == torch.float32 else 5e-2) * max(scale, 1.0):
        raise _unservable(base, "gives other results here than in transformers")
    logger.info("loaded %s in %s; largest difference %.1e", base.id, base.precision, difference)


def _unservable(base: BaseModel, why: str) -> InvalidData:
    kind = base.model.config.model_type
    return InvalidData(
        f"{base.id} cannot be served by this engine: its architecture ({kind}) {why}."
    )
