"""What `genplat evaluate` is to do, from a flat YAML file and the command's flags. Knows no
platform.

The keys are those of `EvaluationSpec`, with the judge's flat beside them, and a few of files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.evaluations.gates import GateRule
from gateway.evaluations.spec import EvaluationSpec
from gateway.flat_config import Keys
from shared.errors import InvalidRequest

# Keys of the command's own, and what they are for.
OWN_KEYS = {
    "dataset": "a file, or the id or name of a dataset",
    "output_dir": "where the report is written: report.html, report.json, report.csv",
    "require": "rules that must hold, or the exit code is 4",
}
# The judge's, which have their names in `JudgeSpec` behind the prefix.
JUDGE_KEYS = {
    "judge": "a model that judges answers",
    "judge_kinds": "similarity, quality, or both",
    "judge_against": "whom quality is compared with: reference or baseline",
    "judge_rubric": "what it goes by",
    "judge_limit": "examples that are judged",
}
_SPEC_KEYS = tuple(name for name in EvaluationSpec.model_fields if name != "judge")
_LISTS = ("candidates", "metrics", "require", "judge_kinds")
EVALUATE = Keys(
    command="genplat evaluate",
    known=(*OWN_KEYS, *JUDGE_KEYS, *_SPEC_KEYS),
    aliases={
        "base": "baseline",
        "data": "dataset",
        "max_new_tokens": "max_tokens",
        "model": "candidates",
        "models": "candidates",
        "rubric": "judge_rubric",
        "samples": "limit",
        "test_file": "dataset",
    },
    same={
        "dataset": ("dataset_id", "held_out_of"),
        "dataset_id": ("dataset", "held_out_of"),
        "held_out_of": ("dataset", "dataset_id"),
    },
    paths={"dataset": Path.is_file, "output_dir": lambda _: True},
)


class Plan(BaseModel):
    """Everything that the command was told. ``spec`` names no data yet, unless by ``dataset_id``
    or ``held_out_of``."""

    model_config = ConfigDict(extra="forbid")

    dataset: str | None = Field(None, min_length=1, max_length=4096)
    output_dir: Path | None = None
    require: list[GateRule] = Field(default_factory=list, max_length=20)
    spec: dict[str, Any]

    def spec_for(self, dataset_id: str | None) -> EvaluationSpec:
        """The spec, with the id that the data got; InvalidRequest names the key at fault."""
        named = {"dataset_id": dataset_id} if dataset_id is not None else {}
        try:
            return EvaluationSpec.model_validate(self.spec | named)
        except ValidationError as error:
            raise _told(error) from error


def flags() -> dict[str, str]:
    """For each key, what it is for."""
    fields = EvaluationSpec.model_fields
    return (
        dict(OWN_KEYS)
        | {name: fields[name].description or "" for name in _SPEC_KEYS}
        | dict(JUDGE_KEYS)
    )


def read_plan(config: Path | None, given: Mapping[str, str]) -> Plan:
    content = EVALUATE.read(config, given)
    for name in _LISTS:
        if isinstance(content.get(name), str) and content[name] != "auto":
            content[name] = _listed(content[name])
    candidates = content.get("candidates")
    folder = Path.cwd() if config is None or "candidates" in given else config.parent.resolve()
    if isinstance(candidates, list):
        content["candidates"] = [_located(name, folder) for name in candidates]
    judge = {
        name.removeprefix("judge_"): content.pop(name)
        for name in JUDGE_KEYS
        if name != "judge" and name in content
    }
    if content.get("judge") is not None:
        judge["model"] = content.pop("judge")
    elif judge:
        raise InvalidRequest("judge: name the model that is to judge.", param="judge")
    own = {name: content.pop(name) for name in OWN_KEYS if name in content}
    spec = content | ({"judge": judge} if judge else {})
    try:
        plan = Plan.model_validate(own | {"spec": spec})
    except ValidationError as error:
        raise _told(error) from error
    named = [name for name in ("dataset_id", "held_out_of") if spec.get(name)]
    if len(named) + (plan.dataset is not None) != 1:
        raise InvalidRequest(
            "dataset: give either dataset, dataset_id or held_out_of.", param="dataset"
        )
    # Before anything is uploaded for a spec that is refused.
    plan.spec_for(None if named else "to be found")
    return plan


def _listed(text: str) -> list[str]:
    """``a, b`` as a list; rules have no commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _located(name: Any, folder: Path) -> Any:
    """A folder that `genplat train --local` wrote, as its whole path; other names as they are."""
    if isinstance(name, str) and name.startswith((".", "/")) and (folder / name).is_dir():
        return str((folder / name).resolve())
    return name


def _told(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return InvalidRequest(f"{name}: {said}." if name else f"{said}.", param=name or None)
