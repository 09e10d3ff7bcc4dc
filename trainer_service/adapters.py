"""Lays a LoRA adapter over a base model, or sets the whole of it to learning; loads nothing."""

import warnings
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from shared.errors import InvalidData, InvalidRequest
from shared.runs import Hyperparameters
from trainer_service.fused_lora import fuse_lora


def learn_whole(model: Any, numbers: Hyperparameters, *, seed: int) -> Any:
    """Method full: every weight of ``model`` learns."""
    torch.manual_seed(seed)
    model.requires_grad_(True)
    if numbers.gradient_checkpointing:
        _checkpoint_activations(model)
    return model.train()


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
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
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
