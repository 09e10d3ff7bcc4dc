"""The fields of the form that starts a run: labels, one line of help each, and how they read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

AUTO = "auto"
_AUTO_OR = ((AUTO, "auto"),)
_SHARDING = (*_AUTO_OR, ("full", "full"), ("none", "none"))
_ON_OFF = (*_AUTO_OR, ("true", "on"), ("false", "off"))


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
    if not names:
        raise ValueError("Write all-linear, names of modules with commas, or auto.")
    return text if text == "all-linear" else names


def on_or_off(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("Choose on, off or auto.")
    return text == "true"


GROUPS = (
    FieldGroup(
        "How long and how fast it learns",
        (
            FormField("num_train_epochs", "Epochs", "How often all rows are seen.", real),
            FormField("max_steps", "Steps", "Has the last word over the epochs.", whole),
            FormField(
                "learning_rate",
                "Learning rate",
                "For small data about 1e-3 with LoRA, 5e-5 in full.",
                real,
            ),
            FormField(
                "lr_scheduler_type",
                "Schedule",
                "How the learning rate falls after the warm-up.",
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
        "Rows and memory",
        (
            FormField("per_device_train_batch_size", "Batch size", "Rows in one step.", whole),
            FormField(
                "gradient_accumulation_steps",
                "Accumulated batches",
                "Larger steps in the same memory.",
                whole,
            ),
            FormField(
                "max_length",
                "Longest row",
                "In tokens. Chat models: longer rows are left out, never cut. T5 and its kin: "
                "longer source texts are cut.",
                whole,
            ),
            FormField(
                "max_target_length",
                "Longest answer",
                "In tokens, for T5 and its kin: rows with longer answers are left out.",
                whole,
            ),
            FormField(
                "gradient_checkpointing",
                "Gradient checkpointing",
                "Less memory, about a third slower.",
                on_or_off,
                options=_ON_OFF,
            ),
        ),
    ),
    FieldGroup(
        "LoRA and QLoRA",
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
        "Validation and checkpoints",
        (
            FormField(
                "eval_steps", "Validate every … steps", "auto: four to ten times a run.", whole
            ),
            FormField(
                "save_steps",
                "Save every … steps",
                "auto: about four times a run. What is saved is validated.",
                whole,
            ),
            FormField(
                "early_stopping_patience",
                "Patience",
                "Stop after so many validations without progress; 0 for never.",
                whole,
            ),
            FormField(
                "load_best_model_at_end",
                "Keep the best weights",
                "Of the lowest validation loss, instead of the last.",
                on_or_off,
                options=_ON_OFF,
            ),
        ),
    ),
    FieldGroup(
        "The rest",
        (
            FormField(
                "devices",
                "Devices",
                "GPUs of the worker that share each step; the batch grows with them.",
                whole,
                default="1",
            ),
            FormField(
                "sharding",
                "Sharding",
                "Whether devices divide the model too; auto: where one could not hold the run.",
                str,
                options=_SHARDING,
            ),
            FormField("seed", "Seed", "The same seed gives the same run.", whole, default="42"),
            FormField(
                "task_prefix",
                "Text before each input",
                "auto: the base model's own, such as “summarize: ”. It is used in serving too.",
                str,
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

METHODS = (
    ("lora", "LoRA", "Trains small weights beside the model. Right for most."),
    ("qlora", "QLoRA", "LoRA over a base in 4 bits: large models in little memory, slower."),
    ("full", "Full", "Trains every weight: for T5 and small models. Takes the most memory."),
)
PRESETS = (
    ("fast", "Fast", "About 80 steps, one epoch at most: enough to see that it learns."),
    ("balanced", "Balanced", "About 200 steps, one to three epochs by the size of your data."),
    ("thorough", "Thorough", "About 600 steps, up to six epochs. Keeps the best weights."),
)
NO_VALIDATION_DATASET = ("", "A share of the data itself")
