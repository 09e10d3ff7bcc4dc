"""What may be taken from a model folder that somebody else made; loads no weights, runs no code.

Weights come as safetensors alone, configs as the keys that transformers itself knows. A model that
brings code of its own (``auto_map``) is refused.
"""

import dataclasses
import inspect
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from shared.errors import InvalidData
from shared.model_library import SERVABLE

log = logging.getLogger(__name__)

WEIGHTS_INDEX = "model.safetensors.index.json"
# Files beside the weights that a tokenizer or generation may need.
COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
)
# Keys that transformers reads although no config class names them, and spellings of older
# checkpoints that it maps to its own fields.
_OLDER_KEYS = {
    "decoder_start_token_id",
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "rope_theta",
    "rope_scaling",
    "rope_local_base_freq",
    "partial_rotary_factor",
    "rotary_pct",
    "rotary_emb_base",
}
_CODE_KEYS = (
    "auto_map",
    "custom_pipelines",
    "trust_remote_code",
    "_attn_implementation_internal",
    "_experts_implementation_internal",
)
_CODE_PREFIX = "_implementation"
# How attention is computed is chosen here, not by the model: the name may be that of a kernel on
# the hub, whose code would be run. Older versions of transformers wrote the last one everywhere.
_CHOICES = {
    "attn_implementation",
    "experts_implementation",
    "_attn_implementation",
    "_experts_implementation",
    "_attn_implementation_autoset",
}
MAX_JSON_BYTES = 64 * 2**20


def copy_model(source: Path, target: Path) -> None:
    """Check the model folder ``source`` and copy what is needed of it into ``target``."""
    config = checked_config(source)
    weights = weight_files(source)
    (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    for name in (*weights, *COMPANIONS):
        path = source / name
        if not path.is_file():
            continue
        if path.suffix == ".json":
            _refuse_code(name, _read_json(path))
        shutil.copyfile(path, target / name)


def checked_config(folder: Path) -> dict[str, Any]:
    """``config.json`` reduced to the keys that its model type knows."""
    path = folder / "config.json"
    if not path.is_file():
        raise InvalidData(f"{folder.name} is not a model folder: it has no config.json.")
    config = _read_json(path)
    _refuse_code("config.json", config)
    model_type = str(config.get("model_type", ""))
    if model_type not in SERVABLE or model_type not in CONFIG_MAPPING:
        raise InvalidData(
            f"config.json: model_type {model_type!r} is none that GenPlat can serve "
            f"({', '.join(sorted(SERVABLE))}). Choose another base model."
        )
    known = _known_keys(CONFIG_MAPPING[model_type])
    if "quantization_config" in config:
        raise InvalidData(
            "config.json: these weights are already quantised. Use the full-precision model; "
            "method qlora quantises it while it loads."
        )
    if dropped := sorted(set(config) - known):
        log.warning("config.json: keys not used: %s", ", ".join(dropped)[:500])
    return {key: _without_choices(value) for key, value in config.items() if key in known}


def _known_keys(config_class: type[PreTrainedConfig]) -> set[str]:
    known = set(inspect.signature(config_class).parameters) | set(config_class.attribute_map)
    known |= {field.name for field in dataclasses.fields(config_class)}
    known |= set(config_class().to_dict()) | _OLDER_KEYS
    return {key for key in known - _CHOICES if not key.startswith("_")}


def weight_files(folder: Path) -> tuple[str, ...]:
    """The safetensors files of a model, whole or in shards named by its index."""
    if (folder / "model.safetensors").is_file():
        return ("model.safetensors",)
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        raise InvalidData(
            f"{folder.name} has no model.safetensors. Pickled weights (.bin, .pt) are not loaded: "
            "save the model again with safe_serialization."
        )
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InvalidData(f"{WEIGHTS_INDEX}: weight_map is missing.")
    shards = sorted({str(name) for name in weight_map.values()})
    for name in shards:
        # A loader joins these names to the folder: "../x" would leave it.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InvalidData(f"{WEIGHTS_INDEX}: {name!r} is not a bare safetensors file name.")
        if not (folder / name).is_file():
            raise InvalidData(f"{WEIGHTS_INDEX} names {name}, which is not there.")
    return (*shards, WEIGHTS_INDEX)


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InvalidData(f"{path.name} is larger than {MAX_JSON_BYTES // 2**20} MiB.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"{path.name} is not valid JSON.") from error
    if not isinstance(content, dict):
        raise InvalidData(f"{path.name} must hold a JSON object.")
    return content


def _without_choices(value: Any) -> Any:
    """``value`` without the keys of `_CHOICES`, at any depth; `_refuse_code` has limited it."""
    if isinstance(value, dict):
        return {key: _without_choices(own) for key, own in value.items() if key not in _CHOICES}
    return [_without_choices(own) for own in value] if isinstance(value, list) else value


def _refuse_code(name: str, value: Any, depth: int = 0) -> None:
    """Refuse a JSON value that asks for code: at any depth, however nested."""
    if depth > 50:
        raise InvalidData(f"{name} is nested too deeply.")
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    if isinstance(value, dict):
        for key in value:
            if key in _CODE_KEYS or key.startswith(_CODE_PREFIX):
                raise InvalidData(
                    f"{name} sets {key!r}, which makes a loader run code. "
                    "GenPlat loads weights only: choose a model without it."
                )
    for child in children:
        _refuse_code(name, child, depth + 1)
