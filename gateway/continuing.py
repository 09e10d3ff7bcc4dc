"""Runs that go on from what another run learned: which one a name means, and whether that fits."""

from typing import Any

from sqlmodel import Session

from gateway.model_names import find_run, is_fine_tuned, split_checkpoint
from gateway.tables import Run
from shared.errors import InvalidData
from shared.runs import FineTuneSpec

# What an adapter is made with; another shape could not take up its weights.
_SHAPE = ("lora_r", "lora_alpha", "target_modules")
CHECKPOINT = ":ckpt-step-"


def resolve_origin(session: Session, owner: str, spec: FineTuneSpec) -> FineTuneSpec:
    """The spec with ``continue_from`` as a run's id (and its checkpoint), and all that follows from
    it decided. A ``base_model`` that is a fine-tuned model means the same. InvalidData, naming the
    field, where the two runs do not fit together."""
    name, field = spec.continue_from, "continue_from"
    if is_fine_tuned(spec.base_model):
        if name is not None and name != spec.base_model:
            raise InvalidData(
                "base_model is a fine-tuned model, which means to go on from it: leave "
                "continue_from out.",
                param="continue_from",
            )
        name, field = spec.base_model, "base_model"
    if name is None:
        return spec
    name, step = split_checkpoint(name)
    # Held, as datasets are: it must not be deleted between this look and the new run's own row.
    run = find_run(session, owner, name)
    run = run and session.get(Run, run.id, with_for_update={"read": True})
    if run is None:
        raise InvalidData(f"{field} names no run of yours: {name[:200]!r}.", param=field)
    if step is None and run.status != "succeeded":
        raise InvalidData(
            f"{field}: the run {run.id} is {run.status}; only one that succeeded has a result. "
            f"Name one of its checkpoints instead: {run.id}{CHECKPOINT}N.",
            param=field,
        )
    changes = _fitting(spec, run, field)
    return spec.model_copy(
        update=changes
        | {
            "base_model": run.base_model,
            "continue_from": run.id if step is None else f"{run.id}{CHECKPOINT}{step}",
        }
    )


def _fitting(spec: FineTuneSpec, run: Run, field: str) -> dict[str, Any]:
    """What the earlier run decides; InvalidData where the user decided otherwise."""
    earlier = FineTuneSpec.model_validate(run.spec)
    if field != "base_model" and spec.base_model != run.base_model:
        raise InvalidData(
            f"base_model: the run {run.id} was made on {run.base_model!r}; another model cannot "
            "take up its weights.",
            param="base_model",
        )
    if (spec.method == "full") != (earlier.method == "full"):
        raise InvalidData(
            f"method: the run {run.id} learned with {earlier.method}, and {spec.method} cannot go "
            "on from that: lora and qlora fit each other, full fits full.",
            param="method",
        )
    changes: dict[str, Any] = {}
    if spec.task_prefix is None:
        changes["task_prefix"] = earlier.task_prefix
    if spec.method != "full":
        shape = run.hyperparameters or {}
        for name in _SHAPE:
            changes |= _same(spec, name, shape.get(name, getattr(earlier, name)), run.id)
    return changes


def _same(spec: FineTuneSpec, name: str, value: Any, run_id: str) -> dict[str, Any]:
    asked = getattr(spec, name)
    if asked not in ("auto", value):
        raise InvalidData(
            f"{name}: the adapter of run {run_id} has {value!r}, and going on from it cannot "
            f"change that. Leave {name} out, or start without continue_from.",
            param=name,
        )
    return {name: value}
