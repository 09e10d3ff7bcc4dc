"""OpenAI's request for a fine-tuning job as a spec of ours. Knows no HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gateway import library
from gateway.database import Database
from gateway.datasets import store
from gateway.model_names import find_run, split_checkpoint
from gateway.openai_api import ids
from gateway.openai_api.job_body import JobHyperparameters, JobRequest
from gateway.tables import Dataset, Run
from shared.errors import InvalidData, InvalidRequest, NotFound
from shared.hyperparameters import resolve_hyperparameters
from shared.model_library import LibraryEntry
from shared.runs import FineTuneSpec, Suffix
from shared.storage import Storage

FINE_TUNED = "ft:"
# Fields of a spec that OpenAI's own fields fill in.
_OPENAI_NAMES = {
    "base_model": "model",
    "continue_from": "model",
    "dataset_id": "training_file",
    "datasets": "training_file",
    "validation_dataset_id": "validation_file",
    "seed": "seed",
    "suffix": "suffix",
    "num_train_epochs": "n_epochs",
    "per_device_train_batch_size": "batch_size",
    "learning_rate": "learning_rate_multiplier",
}
_SUFFIX: TypeAdapter[str] = TypeAdapter(Suffix)


def read_request(
    *, database: Database, storage: Storage, owner: str, body: JobRequest
) -> tuple[FineTuneSpec, dict[str, Any]]:
    """The spec that ``body`` asks for, and what only OpenAI's clients want to see again.

    Raises `InvalidRequest`, which names the field at fault.
    """
    numbers = _hyperparameters(body)
    if body.integrations:
        raise InvalidRequest(
            "integrations: nothing leaves this machine, so no integration can be used. Leave it "
            "out; GET /v1/fine_tuning/jobs/{id}/events has every step.",
            param="integrations",
        )
    given = _given(body, numbers)
    _refuse_conflicts(body.genplat, given)
    base_model, entry = _base_model(database, storage, owner, body.model)
    dataset = _dataset(database, owner, body.training_file, "training_file")
    given |= {"base_model": base_model, "dataset_id": dataset.id}
    if body.validation_file is not None:
        validation = _dataset(database, owner, body.validation_file, "validation_file")
        given["validation_dataset_id"] = validation.id
    multiplier = given.pop("learning_rate", None)
    spec = _validated(given | body.genplat)
    if multiplier is not None:
        rate = _checked_rate(multiplier * _usual_rate(spec, entry, dataset))
        spec = spec.model_copy(update={"learning_rate": rate})
    return spec, {
        "model": body.model,
        "metadata": body.metadata,
        "learning_rate_multiplier": multiplier,
    }


@contextmanager
def in_openai_words() -> Iterator[None]:
    """Give what is wrong with a spec the status and the field's name that OpenAI's have."""
    try:
        yield
    except InvalidData as error:
        raise InvalidRequest(
            error.message, code=error.code, param=_openai_name(error.param), details=error.details
        ) from error


def _openai_name(field: str | None) -> str | None:
    return field and (_OPENAI_NAMES.get(field) or f"genplat.{field}")


def _hyperparameters(body: JobRequest) -> JobHyperparameters:
    method = body.method
    if method is not None and (method.type != "supervised" or method.dpo or method.reinforcement):
        raise InvalidRequest(
            "method: only 'supervised' is supported here. Preference pairs (dpo) and graders "
            "(reinforcement) cannot be learned from yet.",
            param="method",
        )
    of_method = method.supervised.hyperparameters if method and method.supervised else None
    if of_method is not None and body.hyperparameters is not None:
        raise InvalidRequest(
            "hyperparameters: give them in method.supervised or here, not in both.",
            param="hyperparameters",
        )
    return of_method or body.hyperparameters or JobHyperparameters.model_validate({})


def _given(body: JobRequest, numbers: JobHyperparameters) -> dict[str, Any]:
    """What the body says with OpenAI's own names, by the fields of a spec. (Files are still
    those of OpenAI, and the learning rate is a multiplier.)"""
    numbers_given = {
        "num_train_epochs": numbers.n_epochs,
        "per_device_train_batch_size": numbers.batch_size,
        "learning_rate": numbers.learning_rate_multiplier,
    }
    found: dict[str, Any] = {
        **{name: value for name, value in numbers_given.items() if value != "auto"},
        "base_model": body.model,
        "continue_from": body.model if body.model.startswith(FINE_TUNED) else None,
        "dataset_id": body.training_file,
        "validation_dataset_id": body.validation_file,
        "seed": body.seed,
        "suffix": _checked_suffix(body.suffix),
    }
    return {name: value for name, value in found.items() if value is not None}


def _checked_suffix(suffix: str | None) -> str | None:
    try:
        return suffix and _SUFFIX.validate_python(suffix)
    except ValidationError as error:
        raise InvalidRequest(
            "suffix: at most 64 letters, digits, '.', '_' and '-', the first a letter or digit.",
            param="suffix",
        ) from error


def _refuse_conflicts(genplat: dict[str, Any], given: dict[str, Any]) -> None:
    for field in genplat:
        if field in given or field == "datasets":
            raise InvalidRequest(
                f"genplat.{field}: this is what {_OPENAI_NAMES[field]} says. Give one of them.",
                param=f"genplat.{field}",
            )


def _base_model(
    database: Database, storage: Storage, owner: str, model: str
) -> tuple[str, LibraryEntry]:
    """The base model of ``model``, which may be a fine-tuned one, and what is known of it."""
    try:
        if model.startswith(FINE_TUNED):
            model = _origin(database, owner, model).base_model
        item = library.get_library_item(
            database=database, storage=storage, owner=owner, model_id=model
        )
        return model, item.entry
    except NotFound as error:
        raise InvalidRequest(
            f"model: {model[:200]!r} is neither in the model library (GET /api/library) nor a "
            "fine-tuned model of yours.",
            code="model_not_available",
            param="model",
        ) from error


def _origin(database: Database, owner: str, model: str) -> Run:
    """The run that made a fine-tuned model, or a checkpoint of one."""
    with database.read() as session:
        run = find_run(session, owner, split_checkpoint(model)[0])
    if run is None:
        raise NotFound(f"There is no model {model[:200]!r}.")
    return run


def _dataset(database: Database, owner: str, file: str, param: str) -> Dataset:
    dataset_id = ids.dataset_id(file, param)
    try:
        return store.get_dataset(database=database, owner=owner, dataset_id=dataset_id)
    except NotFound as error:
        raise ids.no_training_data(file, param) from error


def _validated(values: dict[str, Any]) -> FineTuneSpec:
    try:
        return FineTuneSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        field = field.encode("utf-8", "replace").decode()[:100]
        name = field if field in ("seed", "suffix") else f"genplat.{field}".rstrip(".")
        said = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequest(f"{name}: {said}.", param=name) from error


def _usual_rate(spec: FineTuneSpec, entry: LibraryEntry, dataset: Dataset) -> float:
    """The learning rate that "auto" would choose for so much data."""
    held_out = 0.0 if spec.validation_dataset_id else spec.validation_split
    return resolve_hyperparameters(
        spec,
        examples=max(1, round(dataset.rows * (1 - held_out))),
        context_length=entry.context_length,
        family=entry.family,
        parameters=entry.parameters,
    ).learning_rate


def _checked_rate(rate: float) -> float:
    if rate > 1:
        raise InvalidRequest(
            f"learning_rate_multiplier: it makes the learning rate {rate:.3g}, and more than 1 "
            "teaches nothing. Choose a smaller one.",
            param="learning_rate_multiplier",
        )
    return rate
