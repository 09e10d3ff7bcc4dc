"""What a training is to be, from a flat YAML file and the command's flags. Knows no platform and
no trainer.

The keys are those of `FineTuneSpec`, and a few of files: a ``dataset`` may be a path.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from gateway.flat_config import Content, Keys, check_folder
from gateway.validation import refusal
from shared.errors import InvalidRequest
from shared.runs import FineTuneSpec

DATA = ("dataset", "validation_dataset")
# Keys of the command's own, and what they are for.
OWN_KEYS = {
    "dataset": "a file, or the id or name of a dataset",
    "validation_dataset": "the same, to validate with",
    "name": "what an uploaded dataset is called; default: its file's name",
    "output_dir": "where --local writes what it learned",
}
KEYS = (*OWN_KEYS, *FineTuneSpec.model_fields)
# Keys that name the same data in other ways.
_SAME = {
    "dataset": ("dataset_id", "datasets"),
    "dataset_id": ("dataset", "datasets"),
    "datasets": ("dataset", "dataset_id"),
    "validation_dataset": ("validation_dataset_id",),
    "validation_dataset_id": ("validation_dataset",),
}
# What other trainers call it.
_ALIASES = {
    "adapter": "method",
    "batch_size": "per_device_train_batch_size",
    "cutoff_len": "max_length",
    "epochs": "num_train_epochs",
    "finetuning_type": "method",
    "gradient_accumulation": "gradient_accumulation_steps",
    "lora_rank": "lora_r",
    "lora_target": "target_modules",
    "lora_target_modules": "target_modules",
    "lr": "learning_rate",
    "lr_scheduler": "lr_scheduler_type",
    "max_seq_length": "max_length",
    "micro_batch_size": "per_device_train_batch_size",
    "model": "base_model",
    "model_name_or_path": "base_model",
    "n_epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "r": "lora_r",
    "sequence_len": "max_length",
    "val_set_size": "validation_split",
    "val_size": "validation_split",
    "warmup_steps": "warmup_ratio",
}
TRAIN = Keys(
    command="genplat train",
    known=KEYS,
    aliases=_ALIASES,
    same=_SAME,
    # (For data, whatever else it is called stays as it is.)
    paths=dict.fromkeys(DATA, Path.is_file) | {"output_dir": lambda _: True},
)


def flags() -> dict[str, tuple[str, str]]:
    """For each key, what stands for its value in the help, and what it is for."""
    found = {
        name: ("auto" if field.default == "auto" else "VALUE", field.description or "")
        for name, field in FineTuneSpec.model_fields.items()
    }
    return {name: ("VALUE", text) for name, text in OWN_KEYS.items()} | found


def read_config(config: Path | None, flags: Mapping[str, str]) -> Content:
    """The keys of ``config`` (None: none), and over them the ``flags`` as they were typed."""
    return TRAIN.read(config, flags)


def checked_spec(content: Content, dataset_ids: Mapping[str, str]) -> Content:
    """The body of POST /api/runs, with the ids that the data got. Raises `InvalidRequest`."""
    for name, others in _SAME.items():
        twice = next((other for other in others if content.get(other)), None)
        if content.get(name) and twice is not None:
            raise InvalidRequest(f"{name} and {twice} say the same: give one of them.", param=name)
    fields = {name: value for name, value in content.items() if name not in OWN_KEYS}
    try:
        spec = FineTuneSpec.model_validate(fields | dict(dataset_ids))
    except ValidationError as error:
        raise refusal(error) from error
    return spec.model_dump(mode="json", exclude_unset=True)


def write_as_json(content: Content, target: Path) -> None:
    """The file that ``python -m trainer_service.finetune`` reads. Raises `InvalidRequest` for
    what can be known to be wrong before anything is loaded."""
    if not content.get("dataset") or not content.get("output_dir"):
        raise InvalidRequest(
            "To train right here, name the data and the result: dataset (a file) and output_dir "
            "(a folder)."
        )
    for name in DATA:
        if (value := content.get(name)) is not None and not Path(value).is_file():
            raise InvalidRequest(f"{name}: there is no file {value!r}.", param=name)
    check_folder(Path(content["output_dir"]))
    spec = checked_spec(content, {"dataset_id": Path(content["dataset"]).stem[:80]})
    files = {name: content[name] for name in (*DATA, "output_dir") if content.get(name)}
    del spec["dataset_id"]
    target.write_text(json.dumps(spec | files), encoding="utf-8")
