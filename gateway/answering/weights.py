"""Which weights a model's name stands for, and what tells them from others. Loads nothing."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gateway.client import CommandFailed
from shared.chat import ModelRef
from shared.prompt_template import PromptTemplate
from shared.storage import MANIFEST, Storage, sha256_of


@dataclass(frozen=True)
class LocalModel:
    """A model that can be loaded without a platform. ``result``: the folder of what was learned,
    where ``ref`` names it."""

    name: str
    ref: ModelRef
    result: Path | None = None


def weights_folder(storage: Storage, ref: ModelRef) -> Path:
    if ref.run_id is None:
        return storage.base_model(ref.base_model)
    if ref.checkpoint is None:
        return storage.run_result(ref.run_id)
    return storage.run_deployed(ref.run_id, ref.checkpoint)


def weights_sha256(storage: Storage, ref: ModelRef) -> str | None:
    """The sha256 of the manifest that names every file of the weights with its own: of what a run
    learned, else of the base model. None where they are not there (yet)."""
    return manifest_sha256(weights_folder(storage, ref))


def manifest_sha256(folder: Path) -> str | None:
    try:
        return sha256_of(folder / MANIFEST)
    except FileNotFoundError:
        return None


def find_local(storage: Storage, model: str) -> LocalModel:
    """``model``: the folder that a training wrote (or one of the checkpoints in it), a run of the
    data folder, or a library id. Raises `CommandFailed` where there is no such folder or run."""
    path = Path(model)
    if path.is_absolute():
        return _of_folder(path)
    if model.startswith("ft:"):
        raise CommandFailed(
            f"model: {model[:200]!r} is known to a running GenPlat alone; without one, name the "
            "run by its id or the folder of its result."
        )
    if not model.startswith("run_"):
        return LocalModel(model, ModelRef(base_model=model))
    try:
        result = storage.run_result(model)
    except ValueError as error:
        raise CommandFailed(f"model: {model[:80]!r} is no run's id.") from error
    base = _base_model(result)
    if base is None:
        raise CommandFailed(f"model: there is no result of the run {model} in {storage.root}.")
    return LocalModel(model, ModelRef(base_model=base, run_id=model), result)


def _of_folder(path: Path) -> LocalModel:
    for folder in (path / "result", path):
        base = _base_model(folder)
        if base is not None:
            # (The name of the link under which it will lie in a data folder of its own.)
            return LocalModel(path.name, ModelRef(base_model=base, run_id="run_local"), folder)
    raise CommandFailed(
        f"model: {path} holds no finished training. Name the output_dir of `genplat train --local`."
    )


def _base_model(folder: Path) -> str | None:
    """What the result of a training was learned on; None where there is none."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return PromptTemplate.load(folder).base_model
    except (OSError, ValidationError) as error:
        raise CommandFailed(f"model: the result in {folder} cannot be read.") from error
