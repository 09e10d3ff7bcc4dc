"""What a report warns of, in sentences: settings and data that make a run worse. No model."""

from collections.abc import Iterator, Sequence

from shared.hardware import DeviceKind
from shared.hyperparameters import resolve_hyperparameters
from shared.preflight import DataReport, LabelReport, LengthReport
from shared.runs import Family, FineTuneSpec, Hyperparameters

TOO_HIGH, TOO_LOW = 5.0, 0.01
FEW_ROWS = 20
FEW_VALIDATION_ROWS = 5
FEW_STEPS = 10
MANY_EPOCHS = 20
LITTLE_LEARNED = 0.02
MANY_DUPLICATES = 0.1


def warn_of_settings(
    spec: FineTuneSpec,
    numbers: Hyperparameters,
    *,
    examples: int,
    context_length: int,
    family: Family,
    parameters: int | None,
) -> Iterator[str]:
    usual = resolve_hyperparameters(
        spec.model_copy(update={"learning_rate": "auto"}),
        examples=examples,
        context_length=context_length,
        family=family,
        parameters=parameters,
    ).learning_rate
    ratio = numbers.learning_rate / usual
    if ratio > TOO_HIGH:
        yield (
            f"learning_rate {numbers.learning_rate:g} is {ratio:.0f} times what is usual for "
            f"method {spec.method} here ({usual:g}): training will most likely diverge. Use auto."
        )
    if ratio < TOO_LOW:
        yield (
            f"learning_rate {numbers.learning_rate:g} is far below what is usual for method "
            f"{spec.method} here ({usual:g}): the model will learn next to nothing. Use auto."
        )
    if family == "causal" and spec.max_length != "auto" and spec.max_length > context_length:
        yield (
            f"max_length {spec.max_length} is beyond what the model can read ({context_length} "
            f"tokens): rows may have {context_length}."
        )
    if numbers.max_steps < FEW_STEPS:
        yield (
            f"The run has {numbers.max_steps} optimizer steps, too few to learn much. Add rows, "
            "raise num_train_epochs, or lower the batch size."
        )
    if numbers.num_train_epochs > MANY_EPOCHS:
        yield (
            f"Each row is seen {numbers.num_train_epochs:.0f} times: the model will know the rows "
            "by heart and little else. Watch the validation loss."
        )


def warn_of_devices(devices: int, kind: DeviceKind) -> Iterator[str]:
    if devices > 1 and kind != "cuda":
        yield (
            f"devices {devices} are processes that share one processor and its memory here: they "
            "are no faster than one, and need more. Leave devices at 1."
        )


def warn_of_data(data: DataReport) -> Iterator[str]:
    if data.training < FEW_ROWS:
        yield f"There are {data.training} rows to learn from. Some hundreds do much better."
    if data.validation == 0:
        yield (
            "Nothing is kept for validation: nobody will see whether the model does well on what "
            "it has not learned. Set validation_split, or name a validation dataset."
        )
    elif data.validation < FEW_VALIDATION_ROWS:
        yield f"{data.validation} validation rows say little: their loss will jump about."
    if data.duplicates > MANY_DUPLICATES * data.training:
        yield f"{data.duplicates} of {data.training} training rows repeat another one."
    if data.overlapping_sources:
        yield (
            f"{data.overlapping_sources} of {data.validation} validation rows have a source text "
            f"that is learned from too ({data.overlapping_records} with the same answer): the "
            "validation loss will look better than it is."
        )
    if data.empty_answers:
        yield f"{data.empty_answers} rows have an empty answer: the model learns to say nothing."
    if data.empty_sources:
        yield f"{data.empty_sources} rows have an empty source text."


def warn_of_rows(lengths: Sequence[LengthReport], labels: LabelReport) -> Iterator[str]:
    for length in lengths:
        if length.over:
            yield (
                f"{length.what.capitalize()}s longer than {length.field} {length.limit} tokens are "
                f"{length.fate}: {length.over} of them (the longest has {length.longest})."
            )
    if labels.rows_without_learned:
        yield f"Of {labels.rows_without_learned} rows nothing is learned."
    if labels.rows and labels.learned_share < LITTLE_LEARNED:
        yield (
            f"Only {labels.learned_share:.1%} of all tokens are learned: most of the time goes "
            "into reading."
        )
