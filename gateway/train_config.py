"""A training's flat YAML file as the JSON that the recipe reads; knows none of its fields but
those that are paths."""

import json
from pathlib import Path

import yaml

from shared.errors import InvalidRequest

_PATHS = ("dataset", "validation_dataset", "output_dir")


def write_as_json(config: Path, target: Path) -> None:
    """Paths in ``config`` are relative to its folder; in ``target`` they are absolute."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{config} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{config} must hold names and values, one a line.")
    paths = {
        name: str((config.parent / str(content[name])).resolve())
        for name in _PATHS
        if content.get(name) is not None
    }
    target.write_text(json.dumps({**content, **paths}, default=str), encoding="utf-8")
