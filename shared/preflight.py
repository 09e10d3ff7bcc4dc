"""The pre-flight report: what a run would meet, said before it starts. Shapes alone."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.hardware import DeviceKind, Precision
from shared.memory import MemoryEstimate
from shared.model_library import LibraryEntry
from shared.runs import FineTuneSpec, Hyperparameters, RunCommand

# Raised when the report says more: reports of an older version are made again.
VERSION = 2
SHOWN_PROBLEMS = 20
SHOWN_EXAMPLES = 2


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetFacts(_Shape):
    """What was found when the dataset's file was read."""

    id: str
    name: str
    version: int
    format: str
    rows: int
    weight: float = 1.0
    role: Literal["training", "validation"] = "training"
    skipped_rows: int = 0
    problems: list[dict[str, Any]] = Field(default=[], description="{line, column, message}")
    warnings: list[str] = []


class DataReport(_Shape):
    """The records as a whole; all counts are of records."""

    training: int
    validation: int
    duplicates: int = Field(description="Training records that another one repeats word for word.")
    overlapping_sources: int = Field(
        description="Validation records whose source text is learned from too."
    )
    overlapping_records: int = Field(description="Those whose answer is the same as well.")
    empty_answers: int
    empty_sources: int


class Bin(_Shape):
    """Rows of at least ``start`` and fewer than ``end`` tokens."""

    start: int
    end: int
    count: int


class LengthReport(_Shape):
    """The lengths of one kind of text, in tokens, and what becomes of those over the limit."""

    what: Literal["row", "source", "target"]
    field: Literal["max_length", "max_target_length"]
    limit: int
    over: int
    fate: Literal["left out", "cut"]
    median: int
    percentile_95: int
    longest: int
    histogram: list[Bin]


class Piece(_Shape):
    """A stretch of text as the model sees it."""

    text: str
    learned: bool


class Example(_Shape):
    """One row as it is rendered, special tokens included."""

    pieces: list[Piece]


class LabelReport(_Shape):
    """What is learned. ``rows_without_end``: rows whose end-of-text token is not learned."""

    rows: int
    tokens: int
    learned_tokens: int
    rows_without_learned: int
    rows_without_end: int

    @property
    def learned_share(self) -> float:
        return self.learned_tokens / self.tokens if self.tokens else 0.0


class MemoryReport(_Shape):
    """``need`` is of each of ``devices``. ``changes``: settings with which the run would fit, and
    ``then`` what it would need; None where it fits as it is, or where nothing known would help."""

    device: str
    kind: DeviceKind
    precision: Precision
    available_bytes: int
    need: MemoryEstimate
    fits: bool
    devices: int = 1
    sharded: bool = False
    changes: dict[str, Any] | None = None
    then: MemoryEstimate | None = None
    sentence: str


class TimeReport(_Shape):
    """``seconds`` of the whole run by a measured warm-up; where it was not measured, why. Steps
    are measured on one device; ``shared_by`` several, they are taken to be as many times faster.
    """

    measured: bool
    reason: str | None = None
    seconds: float | None = None
    warm_up_steps: int = 0
    shared_by: int = 1
    tokens_per_second: float | None = None


class PreflightReport(_Shape):
    """The whole report. What could not be looked at is None, and ``missing`` says why.

    ``problems`` would end the run; ``warnings`` would make it worse than it could be. ``final``:
    asking again would say the same.
    """

    id: str
    version: int = VERSION
    status: Literal["done", "failed"]
    created_at: datetime
    final: bool = True
    spec: FineTuneSpec
    datasets: list[DatasetFacts] = []
    problems: list[str] = []
    warnings: list[str] = []
    missing: list[str] = []
    data: DataReport | None = None
    hyperparameters: Hyperparameters | None = None
    epochs: float | None = None
    lengths: list[LengthReport] = []
    examples: list[Example] = []
    labels: LabelReport | None = None
    memory: MemoryReport | None = None
    time: TimeReport | None = None


class PreflightFile(_Shape):
    """A report as it lies in the data folder."""

    owner: str
    report: PreflightReport


class PreflightCommand(_Shape):
    """The payload of a `preflight` job. ``run`` is the run that is asked about; its id is the
    report's own. ``model`` tells what the library knows of the base model."""

    id: str = Field(pattern=r"^[a-z0-9]{16,64}$")
    owner: str
    run: RunCommand
    model: LibraryEntry
    datasets: list[DatasetFacts]


def job_id(preflight_id: str) -> str:
    return f"preflight:{preflight_id}"
