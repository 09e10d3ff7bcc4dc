"""Looks at a local model folder before it is registered; loads nothing and runs nothing of it."""

import json
from pathlib import Path
from typing import Any

from shared.errors import InvalidData
from shared.model_library import SERVABLE
from shared.model_shapes import linears, parameter_count, shape_from_config

MAX_CONFIG_BYTES = 1024 * 1024
MAX_INDEX_BYTES = 32 * MAX_CONFIG_BYTES
MAX_DEPTH = 50
_CODE_KEYS = (
    "auto_map",
    "_attn_implementation_internal",
    "_experts_implementation_internal",
    "model_file",
    "custom_pipelines",
    "trust_remote_code",
)
_POSITIONS = ("max_position_embeddings", "n_positions")


def checked_folder(folder: str, *, root: Path) -> Path:
    """``folder`` as a resolved path, which must be a folder under ``root``."""
    if "\0" in folder:
        raise InvalidData("folder must be a path.", param="folder")
    path = (root / folder).resolve()
    if not path.is_relative_to(root) or path == root or not path.is_dir():
        raise InvalidData(
            f"folder must be a model's folder under {root} (GENPLAT_MODEL_ROOT).", param="folder"
        )
    for file in path.iterdir():
        if not file.resolve().is_relative_to(root):
            raise InvalidData(f"{file.name} is a link that leads out of {root}.", param="folder")
    return path


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json. Refused are models that bring code or pickled or quantised weights,
    and architectures that cannot be trained and served here."""
    config = _json(folder / "config.json", MAX_CONFIG_BYTES)
    _refuse_code(config)
    if "quantization_config" in config:
        raise InvalidData(
            "config.json: these weights are quantised already. Choose the full-precision model; "
            "method qlora quantises it while it loads.",
            param="folder",
        )
    model_type = str(config.get("model_type", ""))[:100]
    if model_type not in SERVABLE:
        raise InvalidData(
            f"config.json: model_type {model_type!r} is not an architecture that can be trained "
            f"and served here. These are: {', '.join(sorted(SERVABLE))}.",
            param="folder",
        )
    _check_weights(folder)
    return config


def facts_of(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Fields of a `LibraryEntry` that a model's own files tell; what they leave out or make up
    keeps its default."""
    facts: dict[str, Any] = {}
    lengths = [config.get(name) for name in _POSITIONS]
    known = [length for length in lengths if isinstance(length, int) and 16 <= length <= 2**24]
    if known:
        facts["context_length"] = known[0]
    names = config.get("architectures")
    architecture = names[0] if isinstance(names, list) and names else None
    if isinstance(architecture, str):
        facts["architecture"] = architecture[:200]
    shape = shape_from_config(config)
    if shape is not None:
        seq2seq = shape.num_decoder_layers is not None
        facts |= {
            "family": "seq2seq" if seq2seq else "causal",
            "shape": shape,
            "parameters": parameter_count(facts.get("architecture"), shape),
            "target_modules": tuple(
                linear.name for linear in linears(facts.get("architecture"), shape)
            ),
        }
    if (tokenizer := _tokenizer_class(folder)) is not None:
        facts["tokenizer"] = tokenizer
    return facts


def _tokenizer_class(folder: Path) -> str | None:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return None
    name = _json(path, MAX_INDEX_BYTES).get("tokenizer_class")
    return name[:100] if isinstance(name, str) else None


def _check_weights(folder: Path) -> None:
    found = {path.name for path in folder.glob("*.safetensors")}
    if not found:
        pickled = sorted(path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt")))
        other = f" {pickled[0][:100]} is pickled, which can run code." if pickled else ""
        raise InvalidData(
            f"The folder holds no *.safetensors file; other weight formats are not read.{other} "
            "Save the model again with save_pretrained.",
            param="folder",
        )
    for index in folder.glob("*.index.json"):
        weight_map = _json(index, MAX_INDEX_BYTES).get("weight_map")
        names = list(weight_map.values()) if isinstance(weight_map, dict) else [None]
        for name in names:
            _check_shard(index.name, name, found)


def _check_shard(index: str, name: Any, found: set[str]) -> None:
    if not isinstance(name, str) or name != Path(name).name:
        raise InvalidData(f"{index} names files outside of the folder.", param="folder")
    if index.startswith("model.safetensors") and name not in found:
        raise InvalidData(
            f"{index} names {name[:200]!r}, which is not among the folder's safetensors files.",
            param="folder",
        )


def _refuse_code(value: Any, depth: int = 0) -> None:
    """Refuse what would have a loader run code, however deep it is hidden."""
    if depth > MAX_DEPTH:
        raise InvalidData("config.json is nested too deeply.", param="folder")
    if isinstance(value, dict):
        for key in value:
            if key in _CODE_KEYS or key.startswith("_implementation"):
                raise InvalidData(
                    f"config.json sets {key!r}: it asks for code of the model's own, which is "
                    "never run. Choose a model without it.",
                    param="folder",
                )
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for child in children:
            _refuse_code(child, depth + 1)


def _json(path: Path, limit: int) -> dict[str, Any]:
    # A pipe would keep its reader waiting for ever; a device would never end.
    if not path.is_file() or path.stat().st_size > limit:
        raise InvalidData(f"The folder holds no readable {path.name}.", param="folder")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise InvalidData(f"{path.name} is not valid JSON.", param="folder") from error
    if not isinstance(found, dict):
        raise InvalidData(f"{path.name} is not a JSON object.", param="folder")
    return found
