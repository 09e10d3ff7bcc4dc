"""What models that runs made are called, and which run a name means; knows no weights."""

import re

from sqlmodel import Session, col, select

from gateway.tables import Run

_CHECKPOINT = re.compile(r"(.+):ckpt-step-(\d{1,9})", re.DOTALL)
_FINE_TUNED = re.compile(r"ft:.+:genplat:[^:]*:([a-z0-9]{8})", re.DOTALL)


def fine_tuned_model(run: Run) -> str:
    """The model's name in OpenAI's form."""
    return f"ft:{run.base_model}:genplat:{run.spec.get('suffix', '')}:{run.id[-8:]}"


def checkpoint_model(run: Run, step: int) -> str:
    """The same of a checkpoint."""
    return f"{fine_tuned_model(run)}:ckpt-step-{step}"


def split_checkpoint(name: str) -> tuple[str, int | None]:
    """A name without its ``:ckpt-step-N``, and that step; None where it names none."""
    found = _CHECKPOINT.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def is_fine_tuned(name: str) -> bool:
    return _FINE_TUNED.fullmatch(split_checkpoint(name)[0]) is not None


def find_run(session: Session, owner: str, name: str) -> Run | None:
    """The owner's run with this id, or whose fine-tuned model has, or will have, this name."""
    run = session.get(Run, name)
    if run is not None:
        return run if run.owner == owner else None
    found = _FINE_TUNED.fullmatch(name)
    if found is None:
        return None
    query = select(Run).where(Run.owner == owner, col(Run.id).endswith(found[1]))
    return next((run for run in session.exec(query) if fine_tuned_model(run) == name), None)
