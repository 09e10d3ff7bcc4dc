"""A flat YAML file whose every key is also a flag of its command. Knows no command.

Paths in a file are relative to its folder, those of flags to where one is.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shared.errors import InvalidRequest

Content = dict[str, Any]


@dataclass(frozen=True)
class Keys:
    """What a ``command`` understands. ``aliases``: what others call a key; ``same``: keys that
    name the same thing in other ways, and give way to a flag; ``paths``: keys whose value becomes
    a whole path where what it stands for is as they say."""

    command: str
    known: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    same: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paths: Mapping[str, Callable[[Path], bool]] = field(default_factory=dict)

    def read(self, config: Path | None, flags: Mapping[str, str]) -> Content:
        """The keys of ``config`` (None: none), and over them the ``flags`` as they were typed."""
        content = {} if config is None else self._of_file(config)
        for flag in flags:
            for name in self.same.get(flag, ()):
                content.pop(name, None)
        content |= {name: _typed(text) for name, text in flags.items()}
        for name, is_one in self.paths.items():
            if content.get(name) is not None:
                typed = name in flags or config is None
                folder = Path.cwd() if typed else config.parent.resolve()  # type: ignore[union-attr]
                content[name] = _located(name, content[name], folder, is_one)
        return content

    def _of_file(self, config: Path) -> Content:
        try:
            content = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InvalidRequest(f"{config} cannot be read as YAML: {error}") from error
        if not isinstance(content, dict):
            raise InvalidRequest(f"{config} must hold names and values, one a line.")
        for name in content:
            if name not in self.known:
                raise self.unknown(str(name), where=str(config))
        return content

    def unknown(self, name: str, *, where: str = "") -> InvalidRequest:
        """The error for a key or flag that means nothing; it names the one that was probably
        meant."""
        key = name.removeprefix("--").replace("-", "_")
        close = difflib.get_close_matches(key, self.known, n=1)
        near = self.aliases.get(key) or next(iter(close), None)
        if near and name.startswith("--"):
            near = f"--{near.replace('_', '-')}"
        way_out = f"Did you mean {near}?" if near else f"See `{self.command} --help` for all keys."
        place = f"{where}: " if where else ""
        return InvalidRequest(f"{place}there is no {name[:80]!r}. {way_out}", param=name[:80])


def _typed(text: str) -> Any:
    """A flag's value. Numbers stay texts, which pydantic understands; lists are YAML."""
    if not text.startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{text!r} cannot be read as YAML: {error}") from error


def _located(name: str, value: Any, folder: Path, is_one: Callable[[Path], bool]) -> str:
    """A whole path where it is one; else the name that it is."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a text.", param=name)
    path = folder / value
    return str(path.resolve()) if is_one(path) else value


def check_folder(path: Path, *, param: str = "output_dir") -> None:
    """`InvalidRequest` where it can be no folder: before an hour's work is lost for it."""
    there = next((one for one in (path, *path.parents) if one.exists()), None)
    if there is not None and not there.is_dir():
        raise InvalidRequest(f"{param}: {there} is no folder.", param=param)
