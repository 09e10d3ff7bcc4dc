"""Begins a run with the weights of another one; knows no data and no optimizer."""

import json
import logging
from pathlib import Path
from typing import Any

from shared.errors import InvalidData, InvalidRequest
from shared.prompt_template import PromptTemplate
from shared.runs import FineTuneSpec
from shared.storage import manifest_problem
from trainer_service.checkpoints import find_checkpoint
from trainer_service.job_files import Job
from trainer_service.modeling import load_weights

log = logging.getLogger(__name__)

ADAPTER_CONFIG = "adapter_config.json"


def inherited_spec(job: Job) -> FineTuneSpec:
    """The job's spec; in a run that goes on from another one, what it leaves open of the adapter's
    shape and of the prompt is what its first weights were made with. InvalidData or InvalidRequest
    where they are not there or do not fit."""
    if not job.first_weights:
        return job.spec
    # Once this run has a checkpoint of its own, the other one need not be there any more.
    own = find_checkpoint(job.checkpoints, fingerprint=job.fingerprint)
    folder = own[0] if own else _whole_folder(job.first_weights)
    template = _read(folder)
    _check_fits(job.spec, template, folder)
    found: dict[str, Any] = {"task_prefix": template.task_prefix}
    if job.spec.method != "full":
        adapter = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        found |= {
            "lora_r": adapter["r"],
            "lora_alpha": adapter["lora_alpha"],
            "target_modules": sorted(adapter["target_modules"]),
        }
    return _filled(job.spec, found)


def load_first_weights(job: Job, model: Any) -> None:
    """Put the weights that the run begins with into ``model``; nothing where it begins anew."""
    if job.first_weights:
        load_weights(model, _whole_folder(job.first_weights))
        log.info("Going on from the weights that continue_from names.")


def _whole_folder(places: tuple[Path, ...]) -> Path:
    """The first of ``places`` that holds what its manifest says."""
    there = [place for place in places if (place / "prompt_template.json").exists()]
    for place in there:
        if (problem := manifest_problem(place)) is None:
            return place
        log.warning("%s is not used: %s.", place.name, problem)
    if there:
        raise InvalidData(
            f"continue_from: the weights of {there[0].name} are damaged "
            f"({manifest_problem(there[0])}). Choose another checkpoint or run.",
            param="continue_from",
        )
    raise InvalidData(
        f"continue_from: the weights of {places[0].name} are gone: checkpoints are dropped as new "
        "ones come. Choose another checkpoint or the run's result.",
        param="continue_from",
    )


def _read(folder: Path) -> PromptTemplate:
    try:
        return PromptTemplate.load(folder)
    except ValueError as error:
        raise InvalidData(
            "continue_from: its prompt_template.json cannot be read.", param="continue_from"
        ) from error


def _check_fits(spec: FineTuneSpec, template: PromptTemplate, folder: Path) -> None:
    if template.base_model != spec.base_model:
        raise InvalidRequest(
            f"base_model: continue_from was trained from {template.base_model}. Choose that.",
            param="base_model",
        )
    whole = not (folder / ADAPTER_CONFIG).is_file()
    if whole != (spec.method == "full"):
        ways = "full" if whole else "lora or qlora"
        raise InvalidRequest(
            f"method: continue_from was trained with method {ways}. Choose that.", param="method"
        )


def _filled(spec: FineTuneSpec, found: dict[str, Any]) -> FineTuneSpec:
    """``spec`` with what it leaves open taken from ``found``. InvalidRequest where it says
    something else of the adapter's shape."""
    for name in ("lora_r", "lora_alpha"):
        wanted = getattr(spec, name)
        if name in found and wanted not in ("auto", found[name]):
            raise InvalidRequest(
                f"{name}: continue_from was trained with {found[name]}, not {wanted}. Leave it at "
                '"auto".',
                param=name,
            )
    is_open = {name for name in found if getattr(spec, name) in ("auto", None)}
    return spec.model_copy(update={name: found[name] for name in is_open})
