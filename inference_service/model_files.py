"""What a reference to a model stands for in the data folder, checked against its manifest."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from inference_service.engine.base_model import BaseModel
from inference_service.engine.lora import CONFIG_FILE
from shared.chat import ModelRef
from shared.errors import InvalidData, NotFound
from shared.model_library import built_in_library
from shared.prompt_template import PromptTemplate
from shared.storage import MANIFEST, Storage, manifest_problem


@dataclass(frozen=True)
class RunResult:
    """What a run made: a whole model, or an adapter over its base model."""

    name: str
    folder: Path
    template: PromptTemplate
    whole: bool


def base_model_folder(storage: Storage, model_id: str) -> Path:
    """The folder of a prepared base model."""
    folder = storage.base_model(model_id)
    if not (folder / MANIFEST).is_file():
        raise NotFound(
            f"The base model {model_id} is not prepared; prepare it in the library.",
            code="model_not_prepared",
            param="base_model",
        )
    if problem := manifest_problem(folder):
        raise InvalidData(
            f"The files of {model_id} are damaged ({problem}); prepare it again.",
            code="damaged_model",
        )
    return folder


def run_result(storage: Storage, ref: ModelRef) -> RunResult:
    """The result of the run that ``ref`` names, or that checkpoint of it which was put aside."""
    run_id, step = ref.run_id or "", ref.checkpoint
    name = run_id if step is None else f"{run_id}:ckpt-step-{step}"
    try:
        folder = storage.run_result(run_id)
        if step is not None:
            folder = storage.run_deployed(run_id, step)
        if problem := manifest_problem(folder):
            raise _unusable(name, problem)
        template = PromptTemplate.load(folder)
    except (OSError, ValueError, ValidationError) as error:
        raise _unusable(name, "it cannot be read") from error
    if template.base_model != ref.base_model:
        raise _unusable(name, f"it was trained on {template.base_model}, not on {ref.base_model}")
    return RunResult(name, folder, template, whole=not (folder / CONFIG_FILE).exists())


def library_template(base: BaseModel) -> PromptTemplate | None:
    """How the library says that a base model without a run is asked. None: as its own tokenizer
    says."""
    entry = built_in_library().get(base.id)
    if entry is None or not (entry.task_prefix or entry.chat_template):
        return None
    return PromptTemplate(
        base_model=base.id,
        family=base.family,
        chat_template=base.chat_template or entry.chat_template,
        task_prefix=entry.task_prefix,
        stop_token_ids=base.stop_token_ids,
    )


def _unusable(name: str, reason: str) -> InvalidData:
    return InvalidData(f"The result of {name} cannot be used: {reason}.", code="bad_adapter")
