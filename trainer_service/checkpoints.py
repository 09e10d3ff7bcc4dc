"""Saves where a run stands and finds the newest place that is whole; knows no recipe.

Everything is safetensors or JSON: no pickle is ever read back. The manifest comes last.
"""

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from shared.chaos import stage
from shared.prompt_template import PromptTemplate
from shared.storage import atomic_directory, manifest_problem
from trainer_service.modeling import save_adapter
from trainer_service.optimization import Optimizer

log = logging.getLogger(__name__)

KEPT = 2
_PREFIX = "step-"


@dataclass(frozen=True)
class Position:
    """Where a run stands after ``step`` optimizer steps. ``fingerprint`` names spec and data, so
    that a checkpoint of another run is never taken up."""

    step: int
    fingerprint: str
    trained_tokens: int
    train_seconds: float
    scaler: dict[str, Any]


def save_checkpoint(
    folder: Path,
    position: Position,
    *,
    model: PeftModel,
    template: PromptTemplate,
    optimizer: Optimizer,
) -> Path:
    """Write ``step-N`` whole or not at all, then drop all but the newest checkpoints.

    Later ones go first: `find_checkpoint` refused them, or the run would be further. Counted among
    the newest they would push out this one.
    """
    for step, stale in _by_step(folder):
        if step > position.step:
            shutil.rmtree(stale, ignore_errors=True)
    target = folder / f"{_PREFIX}{position.step}"
    with atomic_directory(target) as temporary:
        save_adapter(model, template, temporary)
        stage("checkpoint_half", position.step)
        save_file(optimizer.tensors(), temporary / "optimizer.safetensors")
        save_file(_random_state(), temporary / "random.safetensors")
        (temporary / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
    for _, old in _by_step(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def find_checkpoint(folder: Path, *, fingerprint: str) -> tuple[Path, Position] | None:
    """The newest checkpoint that is what its manifest says and belongs to this run."""
    for leftover in folder.glob("*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    for _, path in _by_step(folder):
        try:
            if problem := manifest_problem(path):
                raise ValueError(problem)
            position = Position(**json.loads((path / "position.json").read_text(encoding="utf-8")))
            if position.fingerprint != fingerprint:
                raise ValueError("made with another spec or dataset")
        except (OSError, ValueError, TypeError) as error:
            log.warning("Checkpoint %s is not used: %s.", path.name, error)
            continue
        return path, position
    return None


def load_checkpoint(
    path: Path, position: Position, *, model: PeftModel, optimizer: Optimizer
) -> None:
    """Put adapter, optimizer and random numbers back to where they were."""
    set_peft_model_state_dict(model, load_file(path / "adapter_model.safetensors"))
    optimizer.load_tensors(load_file(path / "optimizer.safetensors"))
    optimizer.scaler.load_state_dict(position.scaler)
    random = load_file(path / "random.safetensors")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _by_step(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders by their step, newest first."""
    steps = [
        (int(path.name.removeprefix(_PREFIX)), path)
        for path in folder.glob(f"{_PREFIX}*")
        if path.name.removeprefix(_PREFIX).isdigit()
    ]
    return sorted(steps, reverse=True)
