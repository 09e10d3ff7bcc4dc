"""Loads a prepared base model with a LoRA adapter that learns; knows no data and no run."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from shared.errors import InvalidData, InvalidRequest
from shared.prompt_template import PromptTemplate
from shared.runs import Hyperparameters, Method
from trainer_service.fused_lora import fuse_lora
from trainer_service.hardware import Device, Precision
from trainer_service.tokenizing import stop_token_ids

log = logging.getLogger(__name__)

# Of models that name no length, such as those whose positions have no end.
DEFAULT_CONTEXT = 2048
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise InvalidData("The base model's tokenizer names no end-of-text token (eos_token).")
    return tokenizer


def make_template(
    base_model: str, task_prefix: str, tokenizer: PreTrainedTokenizerBase, generation_eos: Any
) -> PromptTemplate:
    """The template that the run learns with, to be served with the same."""
    return PromptTemplate(
        base_model=base_model,
        chat_template=_chat_template(tokenizer),
        task_prefix=task_prefix,
        stop_token_ids=stop_token_ids(tokenizer, generation_eos),
    )


def _chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template, of several the default one; "" where there is none."""
    template: Any = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            log.warning(
                "The tokenizer has chat templates named %s, but none is the default: messages are "
                "joined by line breaks instead.",
                ", ".join(sorted(template)),
            )
        template = template.get("default")
    return template if isinstance(template, str) else ""


def context_length(folder: Path) -> int:
    """How many tokens the model in ``folder`` can read, by whatever name its config says it."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or DEFAULT_CONTEXT)


def quantization_config(precision: Precision) -> BitsAndBytesConfig:
    """NF4 with double quantisation, as in the QLoRA paper."""
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[precision],
    )


def load_base(folder: Path, *, method: Method, device: Device, precision: Precision) -> Any:
    """The frozen base model on its device: whole for LoRA, in four bits for QLoRA."""
    options: dict[str, Any] = {"dtype": DTYPES[precision], "local_files_only": True}
    options["use_safetensors"] = True
    if method == "qlora":
        if device.kind == "mps":
            raise InvalidRequest("QLoRA needs an NVIDIA GPU or a CPU: choose method lora here.")
        options["quantization_config"] = quantization_config(precision)
        options["device_map"] = {"": device.torch_name}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, **options)
    if method == "lora":
        return model.to(device.torch_name)
    for module in model.modules():
        # On CPUs with AVX-512 bf16 bitsandbytes repacks the weights at the first evaluation into a
        # form that has no gradient; training would go on and learn nothing.
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def add_adapter(model: Any, numbers: Hyperparameters, *, seed: int) -> PeftModel:
    """Freeze ``model`` and lay a fresh adapter over it. Its weights stay fp32 at any precision:
    steps of 1e-3 of a bf16 weight are lost in rounding. InvalidData where it could learn but not
    be served."""
    config = LoraConfig(
        r=numbers.lora_r,
        lora_alpha=numbers.lora_alpha,
        lora_dropout=numbers.lora_dropout,
        target_modules=numbers.target_modules,
        bias="none",
        task_type="CAUSAL_LM",
    )
    head = model.get_output_embeddings()
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            # PEFT still reads an attribute that transformers has renamed.
            warnings.simplefilter("ignore", FutureWarning)
            # What it says of tied weights and of Conv1D is said below, as a refusal.
            warnings.simplefilter("ignore", UserWarning)
            adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        raise InvalidRequest(
            f"target_modules {numbers.target_modules} do not fit this model. Use 'all-linear'.",
            param="target_modules",
        ) from error
    _refuse_unservable(adapted, head)
    fuse_lora(adapted)
    if numbers.gradient_checkpointing:
        _checkpoint_activations(model)
    adapted.train()
    return adapted


def _checkpoint_activations(model: Any) -> None:
    # The older name, the only one in transformers 5.3, warns in 5.23 and goes with version 6.
    old, new = "gradient_checkpointing_enable", "activation_checkpointing_enable"
    enable = getattr(model, new if hasattr(model, new) else old)
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise InvalidRequest(
            "This base model knows no gradient_checkpointing: leave it out.",
            param="gradient_checkpointing",
        ) from error


def _refuse_unservable(adapted: PeftModel, head: Any) -> None:
    """The inference service lays adapters over linear layers other than the output head, which
    shares its weights with the embeddings in most models."""
    for name, module in adapted.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        layer = module.get_base_layer()
        if isinstance(layer, nn.Linear) and layer is not head:
            continue
        what = "the output head" if layer is head else f"of type {type(layer).__name__}"
        way_out = "Choose another base_model" if isinstance(layer, Conv1D) else "Use 'all-linear'"
        raise InvalidData(
            f"target_modules: {name.removeprefix('base_model.model.')} is {what}, and an adapter "
            f"over it cannot be served, only over linear layers inside the model. {way_out}.",
            param="target_modules",
        )


def adapter_parameters(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    """What learns, by name, in a fixed order."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def save_adapter(model: PeftModel, template: PromptTemplate, folder: Path) -> None:
    """Adapter, its config and the template, in the form that PEFT and the inference service load.

    Written without PEFT's own save, which adds a model card and the base model's local path.
    """
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in state.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config["default"]
    local_path, config.base_model_name_or_path = (
        config.base_model_name_or_path,
        template.base_model,
    )
    inference_mode, config.inference_mode = config.inference_mode, True
    config.save_pretrained(str(folder))
    config.base_model_name_or_path, config.inference_mode = local_path, inference_mode
    template.save(folder)
