"""Loads a prepared base model, and writes and reads what a run made of it; knows no data."""

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
)
from transformers.core_model_loading import revert_weight_conversion
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)

from shared.errors import InvalidData, InvalidRequest
from shared.prompt_template import PromptTemplate
from shared.runs import Family, Method
from trainer_service.hardware import Device, Precision
from trainer_service.model_files import COMPANIONS, WEIGHTS_INDEX
from trainer_service.quantizing import load_quantized
from trainer_service.sharding import put
from trainer_service.tokenizing import stop_token_ids

log = logging.getLogger(__name__)

# Of models that name no length, such as those whose positions have no end.
DEFAULT_CONTEXT = 2048
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
ADAPTER_WEIGHTS = "adapter_model.safetensors"
SHARD_SIZE = "5GB"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise InvalidData("The base model's tokenizer names no end-of-text token (eos_token).")
    return tokenizer


def make_template(
    base_model: str,
    task_prefix: str,
    tokenizer: PreTrainedTokenizerBase,
    generation_eos: Any,
    *,
    family: Family = "causal",
    chat_template: str = "",
) -> PromptTemplate:
    """The template that the run learns with, to be served with the same. ``chat_template`` is for
    causal models whose tokenizer has none."""
    return PromptTemplate(
        base_model=base_model,
        family=family,
        chat_template="" if family == "seq2seq" else _chat_template(tokenizer) or chat_template,
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


def family_of(folder: Path) -> Family:
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return "seq2seq" if config.is_encoder_decoder else "causal"


def load_base(folder: Path, *, method: Method, device: Device, precision: Precision) -> Any:
    """The base model on its device, still learning nothing: in four bits for QLoRA, else whole.
    Full training keeps fp32 at any precision: steps of 1e-3 of a bf16 weight are lost in
    rounding."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    classes: Any = (
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
        if config.is_encoder_decoder
        else MODEL_FOR_CAUSAL_LM_MAPPING
    )
    model_class: Any = classes[type(config)]
    if method == "qlora":
        if device.kind == "mps":
            raise InvalidRequest("QLoRA needs an NVIDIA GPU or a CPU: choose method lora here.")
        model = load_quantized(
            model_class, config, folder, dtype=DTYPES[precision], device=device.torch_name
        )
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        return model
    dtype = torch.float32 if method == "full" else DTYPES[precision]
    model = model_class.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    return model.to(device.torch_name)


def trainable_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """What learns, by name, in a fixed order."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def learned_tensors(model: Any, method: Method) -> dict[str, torch.Tensor]:
    """What the run has learned, by the names that it has in files or, of a whole model, in it."""
    if method == "full":
        return _own_tensors(model)
    return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def save_weights(
    model: Any,
    template: PromptTemplate,
    folder: Path,
    *,
    method: Method,
    base_folder: Path,
    learned: dict[str, torch.Tensor] | None = None,
) -> None:
    """What the run has learned, as it is served and as `load_weights` takes it: an adapter, or
    after method full a model folder with the tokenizer of ``base_folder``. ``learned``: its
    `learned_tensors`, where they had to be gathered."""
    learned = learned_tensors(model, method) if learned is None else learned
    if method != "full":
        _save_adapter(model, learned, template, folder)
        return
    _save_shards(revert_weight_conversion(model, learned), folder)
    config = json.loads((base_folder / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    # As it is in memory, so that a resumed run goes on from the very same weights.
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    for name in COMPANIONS:
        if (base_folder / name).is_file():
            shutil.copyfile(base_folder / name, folder / name)
    template.save(folder)


@torch.no_grad()
def load_weights(model: Any, folder: Path) -> None:
    """Put back what `save_weights` wrote, into a model that learns by the same method.
    InvalidData, naming the field, where it is of another shape."""
    if (folder / ADAPTER_WEIGHTS).is_file():
        stored = load_file(folder / ADAPTER_WEIGHTS)
        own = get_peft_model_state_dict(model, save_embedding_layers=False)
        _check_names(stored, own, "target_modules")
        for name, value in stored.items():
            _check_shape(name, value, own[name], "lora_r")
            put(own[name], value)
        return
    # (The library's own loader, because files may name weights otherwise than models do.)
    loaded, told = type(model).from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    own, found = _own_tensors(model), _own_tensors(loaded)
    _check_names(found.keys() - told["missing_keys"], own, "base_model")
    for name, value in found.items():
        _check_shape(name, value, own[name], "base_model")
        put(own[name], value)


def _check_names(stored: Iterable[str], own: Iterable[str], field: str) -> None:
    if different := set(stored) ^ set(own):
        raise InvalidData(
            f"{field}: the saved weights are of other layers than this run's, such as "
            f"{min(different)}. Set {field} to what they were made with.",
            param=field,
        )


def _check_shape(name: str, stored: torch.Tensor, own: torch.Tensor, field: str) -> None:
    if stored.shape != own.shape:
        raise InvalidData(
            f"{field}: the saved weights have other sizes than this run's: {name} has "
            f"{list(stored.shape)}, not {list(own.shape)}. Set {field} to what they were made "
            "with.",
            param=field,
        )


def _own_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Weights and lasting buffers of a whole model, shared ones under their first name alone."""
    lasting = model.state_dict().keys()
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value for name, value in named if name in lasting}


def _save_shards(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    split = split_torch_state_dict_into_shards(
        tensors, filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD_SIZE
    )
    for file, names in split.filename_to_tensors.items():
        shard = {name: tensors[name].detach().cpu().contiguous() for name in names}
        save_file(shard, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / WEIGHTS_INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _save_adapter(
    model: PeftModel, state: dict[str, torch.Tensor], template: PromptTemplate, folder: Path
) -> None:
    """Adapter, its config and the template, in the form that PEFT and the inference service load.

    Written without PEFT's own save, which adds a model card and the base model's local path.
    """
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in state.items()},
        folder / ADAPTER_WEIGHTS,
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
