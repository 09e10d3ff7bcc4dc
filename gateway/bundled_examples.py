"""The bundled data that the demo learns from and is measured on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import gateway

TRAINING = "plantuml.jsonl"
HELD_OUT = "plantuml_test.jsonl"
SPEC = "demo.yaml"


@dataclass(frozen=True)
class Example:
    scenario: str
    reference: str
    kind: str


def examples_folder() -> Path:
    """Inside the installed package, or the one of the checkout that the package runs from."""
    package = Path(gateway.__file__).parent
    installed = package / "examples"
    return installed if installed.is_dir() else package.parent / "examples"


def held_out(count: int) -> list[Example]:
    """So many scenarios that are not in the training data, all kinds as equally as possible."""
    lines = (examples_folder() / HELD_OUT).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    examples = [Example(row["prompt"], row["completion"], row["kind"]) for row in rows]
    place: dict[str, int] = {}

    def round_of(example: Example) -> int:
        place[example.kind] = place.get(example.kind, -1) + 1
        return place[example.kind]

    return sorted(examples, key=round_of)[:count]


def demo_spec() -> dict[str, Any]:
    """The fine-tuning that the demo asks for, without the ids of its model and dataset."""
    spec: dict[str, Any] = yaml.safe_load((examples_folder() / SPEC).read_text(encoding="utf-8"))
    return spec
