"""What a pipeline is, from its YAML file. Knows no platform and does nothing.

A step's values may hold ``${id.output}``: what a step before it made. A step's id is its kind
unless it says another one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from gateway.flat_config import check_folder
from shared.errors import InvalidRequest

Kind = Literal["synthesize", "train", "batch", "evaluate", "gate", "deploy", "promote"]
Content = dict[str, Any]

OUTPUTS: dict[str, tuple[str, ...]] = {
    "synthesize": ("jsonl", "parquet", "report", "kept"),
    "train": ("model", "run", "output_dir"),
    "batch": ("jsonl", "parquet"),
    "evaluate": ("evaluation", "id"),
    "gate": ("holds", "evaluation"),
    "deploy": ("name", "model"),
    "promote": ("route",),
}
_GATE_KEYS = ("evaluation", "rules", "candidate")
_DEPLOY_KEYS = ("name", "model", "precision", "checkpoint", "replace", "seconds")
_PROMOTE_KEYS = ("route", "deployment", "weight")
_REQUIRED = {
    "gate": ("evaluation", "rules"),
    "deploy": ("name", "model"),
    "promote": ("route", "deployment"),
}
NEEDS_PLATFORM = ("deploy", "promote")
# (The others do without one by themselves.)
BEGINS_ON_PLATFORM = ("train", "evaluate", *NEEDS_PLATFORM)
_REFERENCE = re.compile(r"\$\{([A-Za-z0-9_-]+)\.([A-Za-z0-9_]+)\}")
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,70}")


@dataclass(frozen=True)
class Step:
    """``content``: its keys as they stand in the file. ``allow_partial``: rows that failed, or
    fewer than were wanted, are no failure."""

    id: str
    kind: Kind
    content: Content
    allow_partial: bool = False


@dataclass(frozen=True)
class Pipeline:
    """``folder``: where the file lies, and paths in it begin. ``output_dir``: where steps write
    that name no place of their own, and where it is kept what is done."""

    name: str
    folder: Path
    output_dir: Path
    local: bool
    steps: tuple[Step, ...]


def read_pipeline(config: Path) -> Pipeline:
    """`InvalidRequest` with the step and key at fault: before anything is done."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidRequest(f"{config} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("steps"), list):
        raise InvalidRequest(f"{config} must hold `steps`, a list.", param="steps")
    _check_keys(content, ("name", "output_dir", "local", "steps"), str(config))
    folder = config.resolve().parent
    name = str(content.get("name", config.stem))
    if not _NAME.fullmatch(name):
        raise InvalidRequest("name must be 1 to 70 letters, digits, - and _.", param="name")
    output = content.get("output_dir", f".genplat/pipelines/{name}")
    if not isinstance(output, str) or not isinstance(content.get("local", False), bool):
        raise InvalidRequest("output_dir must be a text, local true or false.")
    steps = tuple(_step(number, one) for number, one in enumerate(content["steps"], 1))
    if not steps:
        raise InvalidRequest("steps: there is none.", param="steps")
    _check_references(steps)
    place = (folder / output).resolve()
    check_folder(place)
    return Pipeline(name, folder, place, content.get("local", False), steps)


def _step(number: int, given: object) -> Step:
    where = f"steps[{number}]"
    if isinstance(given, str):
        given = {given: {}}
    if not isinstance(given, dict) or len(given) != 1:
        raise InvalidRequest(f"{where}: write it as `- KIND: {{…}}`.", param=where)
    [(kind, content)] = given.items()
    if kind not in get_args(Kind):
        known = ", ".join(get_args(Kind))
        raise InvalidRequest(f"{where}: there is no {str(kind)[:40]!r}; there are {known}.")
    if content is not None and not isinstance(content, dict):
        raise InvalidRequest(f"{where}: {kind} must hold keys and values.", param=where)
    content = dict(content or {})
    step_id = str(content.pop("id", kind))
    if not _ID.fullmatch(step_id):
        raise InvalidRequest(f"{where}: id must be a letter, then letters, digits, - and _.")
    partial = content.pop("allow_partial", False)
    if not isinstance(partial, bool):
        raise InvalidRequest(f"{where}: allow_partial must be true or false.", param=where)
    _check_keys(content, keys_of(kind), f"{where} ({kind})")
    for key in _REQUIRED.get(kind, ()):
        if content.get(key) is None:
            raise InvalidRequest(f"{where} ({kind}): {key} is missing.", param=key)
    return Step(step_id, kind, content, partial)


def keys_of(kind: str) -> tuple[str, ...]:
    """What a step of this kind understands: the keys of its command's file."""
    from gateway.batch_inference.config import BATCH
    from gateway.evaluations.config import EVALUATE
    from gateway.synthesis.config import SYNTHESIZE
    from gateway.train_config import TRAIN

    return {
        "synthesize": SYNTHESIZE.known,
        "train": TRAIN.known,
        "batch": BATCH.known,
        "evaluate": EVALUATE.known,
        "gate": _GATE_KEYS,
        "deploy": _DEPLOY_KEYS,
        "promote": _PROMOTE_KEYS,
    }[kind]


def _check_keys(content: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in known:
            raise InvalidRequest(
                f"{where}: there is no {str(key)[:40]!r}; there are {', '.join(known)}.",
                param=str(key)[:40],
            )


def _check_references(steps: tuple[Step, ...]) -> None:
    made: dict[str, Kind] = {}
    for step in steps:
        if step.id in made:
            raise InvalidRequest(f"Two steps are called {step.id!r}: give one another `id`.")
        for source, output in references(step.content):
            if source not in made:
                raise InvalidRequest(
                    f"{step.id}: ${{{source}.{output}}}: there is no step {source!r} before it."
                )
            if output not in OUTPUTS[made[source]]:
                known = ", ".join(OUTPUTS[made[source]])
                raise InvalidRequest(f"{step.id}: ${{{source}.{output}}}: {source} makes {known}.")
        made[step.id] = step.kind


def references(value: Any) -> Iterator[tuple[str, str]]:
    for text in _texts(value):
        yield from _REFERENCE.findall(text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


@dataclass(frozen=True)
class Made:
    """What the steps so far have made, by their ids."""

    outputs: dict[str, Content] = field(default_factory=dict)

    def resolved(self, value: Any) -> Any:
        """The same with every reference replaced; one that stands alone keeps its type."""
        if isinstance(value, str):
            whole = _REFERENCE.fullmatch(value)
            if whole is not None:
                return self._output(*whole.groups())
            look_up: Callable[[re.Match[str]], str] = lambda found: str(  # noqa: E731
                self._output(*found.groups())
            )
            return _REFERENCE.sub(look_up, value)
        if isinstance(value, Mapping):
            return {key: self.resolved(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.resolved(one) for one in value]
        return value

    def _output(self, step: str, output: str) -> Any:
        found = self.outputs[step].get(output)
        if found is None:
            raise InvalidRequest(
                f"${{{step}.{output}}}: the step {step} made none, as it was done here."
            )
        return found
