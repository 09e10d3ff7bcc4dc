"""Looks at a local model folder before it is registered; loads nothing and runs nothing of it."""

import json
from pathlib import Path
from typing import Any

from shared.errors import InvalidData

MAX_CONFIG_BYTES = 1024 * 1024
_CODE_KEYS = ("auto_map", "_attn_implementation_internal", "model_file", "custom_pipelines")


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
    """The model's config.json; models that bring code or pickled weights are refused."""
    config = _json(folder / "config.json")
    if any(key in config for key in _CODE_KEYS):
        raise InvalidData(
            "config.json asks for code of the model's own, which is never run.", param="folder"
        )
    if not any(folder.glob("*.safetensors")):
        raise InvalidData(
            "The folder holds no *.safetensors file; other weight formats are not read.",
            param="folder",
        )
    for index in folder.glob("*.index.json"):
        _check_index(index)
    return config


def _check_index(path: Path) -> None:
    weight_map = _json(path).get("weight_map")
    names = weight_map.values() if isinstance(weight_map, dict) else [None]
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise InvalidData(f"{path.name} names files outside of the folder.", param="folder")


def _json(path: Path) -> dict[str, Any]:
    # A pipe would keep its reader waiting for ever; a device would never end.
    if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES * 32:
        raise InvalidData(f"The folder holds no readable {path.name}.", param="folder")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise InvalidData(f"{path.name} is not valid JSON.", param="folder") from error
    if not isinstance(found, dict):
        raise InvalidData(f"{path.name} is not a JSON object.", param="folder")
    return found
