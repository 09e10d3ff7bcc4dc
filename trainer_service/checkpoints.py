"""Saves where a run stands and finds the newest place that is whole; knows no recipe.

``step-N`` is a place to go on from, ``weights-N`` what is left of an older one: enough to deploy it
or to publish it as the best. Everything is safetensors or JSON: no pickle is ever read back. The
manifest comes last.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from shared.chaos import stage
from shared.storage import atomic_directory, link_weights, manifest_problem, remove, set_aside
from trainer_service.modeling import load_weights
from trainer_service.optimization import Optimizer
from trainer_service.standing import Standing

log = logging.getLogger(__name__)

KEPT = 2
_RESUMABLE = "step-"
_WEIGHTS = "weights-"

WriteWeights = Callable[[Path], None]


@dataclass(frozen=True)
class Position:
    """Where a run stands after ``step`` optimizer steps. ``fingerprint`` names spec and data, so
    that a checkpoint of another run is never taken up."""

    step: int
    fingerprint: str
    trained_tokens: int
    train_seconds: float
    scaler: dict[str, Any]
    standing: Standing = field(default_factory=Standing)


def save_checkpoint(
    folder: Path,
    position: Position,
    *,
    write_weights: WriteWeights,
    optimizer: dict[str, torch.Tensor],
    kept_weights: int,
) -> Path:
    """Write ``step-N`` whole or not at all, then drop older ones: of the newest two everything is
    kept, of the best and of ``kept_weights`` others the weights.

    Later ones go first: `find_checkpoint` refused them, or the run would be further. Counted among
    the newest they would push out this one.
    """
    drop_after(folder, position.step)
    target = folder / f"{_RESUMABLE}{position.step}"
    with atomic_directory(target) as temporary:
        write_weights(temporary)
        stage("checkpoint_half", position.step)
        save_file(optimizer, temporary / "optimizer.safetensors")
        save_file(_random_state(), temporary / "random.safetensors")
        (temporary / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")
    _tidy(folder, best_step=position.standing.best_step, kept_weights=kept_weights)
    return target


def save_weights_alone(
    folder: Path, step: int, *, write_weights: WriteWeights, kept_weights: int
) -> Path:
    """Keep the weights of the best step until now, between two checkpoints."""
    target = folder / f"{_WEIGHTS}{step}"
    with atomic_directory(target) as temporary:
        write_weights(temporary)
    _tidy(folder, best_step=step, kept_weights=kept_weights)
    return target


def find_checkpoint(folder: Path, *, fingerprint: str) -> tuple[Path, Position] | None:
    """The newest checkpoint that is what its manifest says and belongs to this run."""
    for leftover in folder.glob("*.tmp"):
        remove(leftover)
    for _, path in _by_step(folder, _RESUMABLE):
        try:
            if problem := manifest_problem(path):
                raise ValueError(problem)
            position = _read_position(path)
            if position.fingerprint != fingerprint:
                raise ValueError("made with another spec or dataset")
        except (OSError, ValueError, TypeError) as error:
            log.warning("Checkpoint %s is not used: %s.", path.name, error)
            continue
        return path, position
    return None


def find_weights(folder: Path, step: int) -> Path | None:
    """The folder with the weights of ``step``, where they are what their manifest says."""
    for prefix in (_RESUMABLE, _WEIGHTS):
        path = folder / f"{prefix}{step}"
        if manifest_problem(path) is None:
            return path
    return None


def kept_steps(folder: Path) -> tuple[int, ...]:
    """The steps whose weights are there."""
    return tuple(
        sorted({step for kind in (_RESUMABLE, _WEIGHTS) for step, _ in _by_step(folder, kind)})
    )


def drop_after(folder: Path, step: int) -> None:
    """Remove what a run that stands at ``step`` has yet to make."""
    for kind in (_RESUMABLE, _WEIGHTS):
        for later, path in _by_step(folder, kind):
            if later > step:
                remove(set_aside(path))


def load_checkpoint(path: Path, position: Position, *, model: Any, optimizer: Optimizer) -> None:
    """Put weights, optimizer and random numbers back to where they were."""
    load_weights(model, path)
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


def _read_position(path: Path) -> Position:
    content = json.loads((path / "position.json").read_text(encoding="utf-8"))
    # (Checkpoints of the first versions have no standing.)
    return Position(**{**content, "standing": Standing(**content.get("standing", {}))})


def _tidy(folder: Path, *, best_step: int | None, kept_weights: int) -> None:
    resumable = _by_step(folder, _RESUMABLE)
    old = dict(resumable[KEPT:])
    kept = dict(resumable[:KEPT])
    alone = dict(_by_step(folder, _WEIGHTS))
    # The best as each place to go on from knows it: the newest of them may turn out damaged.
    best = {best_step, *(_best_of(path) for path in kept.values())}
    others = sorted((old.keys() | alone.keys()) - kept.keys() - best, reverse=True)
    wanted = (best | set(others[:kept_weights])) - kept.keys()
    for step, path in old.items():
        if step in wanted and step not in alone:
            _strip(path, folder / f"{_WEIGHTS}{step}")
        remove(set_aside(path))
    for step, path in alone.items():
        if step not in wanted:
            remove(set_aside(path))


def _best_of(path: Path) -> int | None:
    try:
        return _read_position(path).standing.best_step
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _strip(path: Path, target: Path) -> None:
    """The weights of a checkpoint, without what it takes to go on from there. Damaged ones would
    look whole afterwards, and go."""
    if manifest_problem(path) is None:
        with atomic_directory(target) as temporary:
            link_weights(path, temporary)


def _by_step(folder: Path, prefix: str) -> list[tuple[int, Path]]:
    """Folders of a kind by their step, newest first."""
    steps = [
        (int(number), path)
        for path in folder.glob(f"{prefix}*")
        if (number := path.name.removeprefix(prefix)).isascii() and number.isdecimal()
    ]
    return sorted(steps, reverse=True)
