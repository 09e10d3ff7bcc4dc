"""Which files of a dataset repository hold a split, as the Hugging Face hub lays them out.

Knows names and a README's text; no disk and no network. Dataset scripts are never looked at.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

# The best first: where a split is there in several types, one of them is taken.
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv")
DEFAULT = "default"
_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# The one in C where there is one: headers of large repositories take the other long.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_README = 1024 * 1024
MAX_SHARDS = 1000


@dataclass(frozen=True)
class Repository:
    """The paths of all files, relative and with ``/``, and the README's text."""

    files: Sequence[str]
    readme: str = ""


def split_files(repository: Repository, config: str | None, split: str) -> list[str]:
    """The files of a split in their order; empty where there are none."""
    configs = _configs(repository.readme)
    if configs:
        chosen = _chosen(configs, config)
        return _of_one_type(_declared(chosen, split, repository.files)) if chosen else []
    name = config or DEFAULT
    own = () if name != DEFAULT else ("",)
    for folder in (*own, f"{name}/", f"data/{name}/"):
        if found := _by_name(repository.files, folder, split):
            return _of_one_type(found)
    return []


def described(repository: Repository) -> str:
    """What could be asked for instead, for a sentence."""
    if names := [str(config.get("config_name", DEFAULT)) for config in _configs(repository.readme)]:
        return f"Its configs are {', '.join(names[:10])}"
    files = [name for name in repository.files if name.endswith(SUFFIXES)]
    return f"Its data files are {', '.join(files[:10])}" if files else "It holds no data file"


def _configs(readme: str) -> list[dict[str, Any]]:
    """The configs that the README's YAML header declares files for."""
    header = re.match(r"\A\ufeff?---\r?\n(.*?)\r?\n---", readme[:MAX_README], re.DOTALL)
    if header is None:
        return []
    try:
        found = yaml.load(header[1], Loader=_LOADER)  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, RecursionError, ValueError):
        return []
    configs = found.get("configs") if isinstance(found, dict) else None
    return [
        config
        for config in (configs if isinstance(configs, list) else [])
        if isinstance(config, dict) and config.get("data_files")
    ]


def _chosen(configs: list[dict[str, Any]], name: str | None) -> dict[str, Any] | None:
    """The config of that name; without one the default, or the only one."""
    for config in configs:
        if config.get("config_name", DEFAULT) == (name or DEFAULT):
            return config
    if name is not None:
        return None
    defaults = [config for config in configs if config.get("default") is True]
    return (defaults or configs)[0] if defaults or len(configs) == 1 else None


def _declared(config: dict[str, Any], split: str, files: Iterable[str]) -> list[str]:
    """``data_files`` is a pattern, a list of them, or a list of {split, path}."""
    declared = config["data_files"]
    folder = config.get("data_dir")
    patterns: list[Any] = []
    for item in declared if isinstance(declared, list) else [declared]:
        if isinstance(item, dict):
            paths = item.get("path") if item.get("split") == split else []
            patterns += paths if isinstance(paths, list) else [paths]
        elif split == "train":
            patterns.append(item)
    whole = [
        f"{folder}/{pattern}" if isinstance(folder, str) else pattern
        for pattern in patterns
        if isinstance(pattern, str)
    ]
    return [name for name in files if any(_matches(name, pattern) for pattern in whole)]


def _matches(name: str, pattern: str) -> bool:
    """Whether a glob matches: ``*`` stays in its folder, ``**`` does not."""
    pattern = pattern.removeprefix("./")
    if "**" in pattern:
        return fnmatch.fnmatchcase(name, pattern.replace("**/", "*"))
    return name.count("/") == pattern.count("/") and fnmatch.fnmatchcase(name, pattern)


def _by_name(files: Iterable[str], folder: str, split: str) -> list[str]:
    """Without a declaration: files named after the split, or in a folder of its name."""
    names = "|".join(re.escape(name) for name in _NAMES.get(split, (split,)))
    word = rf"(?:.*[-._])?(?:{names})(?:[-._].*)?"
    pattern = re.compile(rf"(?:data/)?(?:(?:{names})/[^/]+|{word}\.[a-z]+)")
    return [
        name
        for name in files
        if name.startswith(folder) and pattern.fullmatch(name.removeprefix(folder))
    ]


def _of_one_type(files: Iterable[str]) -> list[str]:
    found = sorted(set(files), key=_natural)
    for suffix in SUFFIXES:
        if same := [name for name in found if name.lower().endswith(suffix)]:
            return same
    return []


def _natural(name: str) -> list[tuple[int, str]]:
    """Shard 10 comes after shard 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
