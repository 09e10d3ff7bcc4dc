"""The form that starts a run: its fields, and a submitted form as a FineTuneSpec or as errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shared.runs import FineTuneSpec
from ui.form_errors import field_errors

AUTO = "auto"
_AUTO_OR = ((AUTO, "auto"),)


@dataclass(frozen=True)
class FormField:
    """A hyperparameter in the form; ``options`` make it a choice."""

    name: str
    label: str
    help: str
    parse: Callable[[str], Any]
    default: str = AUTO
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FieldGroup:
    title: str
    fields: tuple[FormField, ...]


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError("Write a whole number, or auto.") from error


def real(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("Write a number, or auto.") from error


def modules(text: str) -> str | list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    return text if text == "all-linear" else names


GROUPS = (
    FieldGroup(
        "Training",
        (
            FormField("num_train_epochs", "Epochs", "How often all rows are seen.", real),
            FormField("max_steps", "Steps", "Ends earlier or later than the epochs say.", whole),
            FormField("learning_rate", "Learning rate", "Small data likes 1e-3 with LoRA.", real),
            FormField("per_device_train_batch_size", "Batch size", "Rows in one step.", whole),
            FormField(
                "gradient_accumulation_steps",
                "Accumulated batches",
                "Larger steps in the same memory.",
                whole,
            ),
            FormField("max_length", "Longest row, in tokens", "Longer rows are cut.", whole),
            FormField(
                "lr_scheduler_type",
                "Schedule",
                "How the learning rate falls.",
                str,
                options=(
                    *_AUTO_OR,
                    ("linear", "linear"),
                    ("cosine", "cosine"),
                    ("constant", "constant"),
                ),
            ),
            FormField("warmup_ratio", "Warm-up", "Share of steps until the full rate.", real),
            FormField("weight_decay", "Weight decay", "Pulls weights towards zero.", real),
            FormField("max_grad_norm", "Gradient limit", "Cuts single wild steps.", real),
        ),
    ),
    FieldGroup(
        "LoRA",
        (
            FormField("lora_r", "Rank", "More can hold more, and takes more memory.", whole),
            FormField(
                "lora_alpha", "Alpha", "How strongly it acts; usually twice the rank.", whole
            ),
            FormField("lora_dropout", "Dropout", "Against learning rows by heart.", real),
            FormField("target_modules", "Modules", "all-linear, or names with commas.", modules),
        ),
    ),
    FieldGroup(
        "Validation and the rest",
        (
            FormField("eval_steps", "Validate every … steps", "Ten times a run by default.", whole),
            FormField("save_steps", "Save every … steps", "Four checkpoints by default.", whole),
            FormField("seed", "Seed", "The same seed gives the same run.", whole, default="42"),
            FormField(
                "task_prefix",
                "Text before each input",
                "Kept with the model and used in serving too.",
                str,
                default="",
            ),
            FormField(
                "gradient_checkpointing",
                "Gradient checkpointing",
                "Less memory, slower.",
                lambda text: text == "true",
                options=(*_AUTO_OR, ("true", "on"), ("false", "off")),
            ),
        ),
    ),
)
ADVANCED = tuple(field for group in GROUPS for field in group.fields)
VALIDATION_SPLIT = FormField(
    "validation_split",
    "Share kept for validation",
    "Split by source text; 0 for none.",
    real,
    default="0.1",
)
FIELDS = (VALIDATION_SPLIT, *ADVANCED)
_CHOSEN = ("dataset_id", "base_model", "validation_dataset_id", "suffix", "method")
SIMPLE = (*_CHOSEN, "preset")
NO_VALIDATION_DATASET = ("", "A share of the dataset itself")

METHODS = (
    ("lora", "LoRA", "Small weights beside the model. Right for most."),
    ("qlora", "QLoRA", "The base in 4 bits: smaller weights, for large models on a GPU; slower."),
)
PRESETS = (
    ("auto", "Balanced", "One to three epochs, by the size of your data."),
    ("quick", "Quick look", "40 steps: enough to see that it learns."),
    ("thorough", "Thorough", "Six epochs, for small data that should stick."),
)
_PRESET_VALUES: dict[str, dict[str, Any]] = {
    "auto": {},
    "quick": {"max_steps": 40},
    "thorough": {"num_train_epochs": 6.0},
}


def initial_values(**chosen: str) -> dict[str, str]:
    """The form as it first stands."""
    values = dict.fromkeys(SIMPLE, "") | {"method": "lora", "preset": "auto"}
    return values | {field.name: field.default for field in FIELDS} | chosen


def values_like(spec: Mapping[str, Any]) -> dict[str, str]:
    """The form as it was for an earlier run."""
    known = (*_CHOSEN, *(field.name for field in FIELDS))
    return initial_values(**{name: _text(spec[name]) for name in known if name in spec})


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def changed_advanced(values: Mapping[str, str]) -> bool:
    """Whether a hyperparameter is not at its default, so that the group should stand open."""
    return any(values[field.name].strip() not in ("", field.default) for field in ADVANCED)


def parse(values: Mapping[str, str]) -> tuple[FineTuneSpec | None, dict[str, str]]:
    """The spec that a form asks for, or what is wrong with it by field."""
    asked: dict[str, Any] = {name: values[name].strip() for name in _CHOSEN}
    asked["validation_dataset_id"] = asked["validation_dataset_id"] or None
    asked |= _PRESET_VALUES.get(values["preset"], {})
    errors: dict[str, str] = {}
    for field in FIELDS:
        # A prefix keeps its spaces: they are part of what the model sees.
        text = values[field.name] if field.name == "task_prefix" else values[field.name].strip()
        if text in ("", AUTO) or (field is VALIDATION_SPLIT and asked["validation_dataset_id"]):
            # With validation data of its own, the share is hidden and has no say.
            continue
        try:
            asked[field.name] = field.parse(text)
        except ValueError as error:
            errors[field.name] = str(error)
    if errors:
        return None, errors
    try:
        return FineTuneSpec.model_validate(asked), {}
    except ValidationError as error:
        return None, field_errors(error)
