"""Loads a base model in four bits (NF4), one weight at a time; knows no adapter and no run.

What bitsandbytes does by itself peaks higher than the whole model: the weights that stay whole
(embeddings, norms) are views of the mapped file and keep all of it in memory. Here each tensor is
read through a mapping of its own, which goes with it.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from safetensors import safe_open
from transformers import BitsAndBytesConfig, PreTrainedConfig

from trainer_service.model_files import weight_files


def quantization_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with double quantisation, as in the QLoRA paper; products are made in ``dtype``."""
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def load_quantized(
    model_class: Any, config: PreTrainedConfig, folder: Path, *, dtype: torch.dtype, device: str
) -> Any:
    """The model of ``folder``: linear layers in four bits, the output head and what is no linear
    layer in ``dtype``. T5's ``wo`` stays whole, too: transformers keeps it out of four bits, since
    what it writes leaves the range of fp16."""
    model = model_class.from_pretrained(
        None,
        config=config,
        state_dict=stored_tensors(folder),
        dtype=dtype,
        quantization_config=quantization_config(dtype),
        device_map={"": device},
    )
    for module in model.modules():
        # On CPUs with AVX-512 bf16 bitsandbytes repacks the weights at the first evaluation into a
        # form that has no gradient; training would go on and learn nothing.
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    _return_freed_memory()
    return model


def _return_freed_memory() -> None:
    """What quantising one small weight after another frees, glibc keeps: more than the model."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


class StoredTensor:
    """A tensor on disk, read where it is indexed: the way transformers takes safetensors' own."""

    def __init__(self, file: Path, name: str) -> None:
        self.file = file
        self.name = name

    def __getitem__(self, place: Any) -> torch.Tensor:
        with safe_open(self.file, framework="pt") as stored:
            tensor: torch.Tensor = stored.get_tensor(self.name)
        return tensor[place]


def stored_tensors(folder: Path) -> Mapping[str, StoredTensor]:
    """The weights of a model folder by name, none of them read yet."""
    found: dict[str, StoredTensor] = {}
    for name in weight_files(folder):
        if name.endswith(".safetensors"):
            with safe_open(folder / name, framework="pt") as stored:
                found |= {key: StoredTensor(folder / name, key) for key in stored.keys()}  # noqa: SIM118
    return found
