"""What an evaluation is asked to be. Pure."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gateway.evaluations.metrics.tasks import NAMES, Task

MAX_CANDIDATES = 8
MAX_EXAMPLES = 10_000
MAX_RUBRIC = 20_000

CandidateName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
JudgedBy = Literal["similarity", "quality"]


class JudgeSpec(BaseModel):
    """A model that judges: ``similarity`` to the desired answer (a score from 1 to 5), and
    ``quality`` against another answer, in both orders. ``against``: the desired answer, or the
    baseline's."""

    model_config = ConfigDict(extra="forbid")

    model: CandidateName
    kinds: tuple[JudgedBy, ...] = Field(("similarity", "quality"), min_length=1, max_length=2)
    against: Literal["reference", "baseline"] = "reference"
    rubric: str = Field("", max_length=MAX_RUBRIC, description="Empty: the bundled one.")
    limit: int = Field(200, ge=1, le=MAX_EXAMPLES, description="Examples that are judged.")
    max_tokens: int = Field(400, ge=16, le=8192)


class EvaluationSpec(BaseModel):
    """``candidates``: what chat accepts, run ids (with ``:ckpt-step-N`` for a checkpoint) and
    ``upstream/NAME``; the others are compared with ``baseline``, by default the first of them.
    Data: a dataset, or what a run validated on (``held_out_of``)."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
    dataset_id: str | None = Field(None, min_length=1, max_length=80)
    held_out_of: str | None = Field(
        None, min_length=1, max_length=300, description="A run: its validation rows are asked."
    )
    candidates: list[CandidateName] = Field(min_length=1, max_length=MAX_CANDIDATES)
    baseline: CandidateName | None = None
    task: Task | Literal["auto"] = "auto"
    metrics: list[str] | Literal["auto"] = "auto"
    tag_column: str | None = Field(None, max_length=200, description="Sliced by; auto by its name.")
    limit: int | None = Field(None, ge=1, le=MAX_EXAMPLES, description="Examples, drawn by seed.")
    seed: int = Field(42, ge=0, le=2**31 - 1)
    max_tokens: int = Field(512, ge=1, le=131_072)
    temperature: float = Field(0, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    confidence: float = Field(0.95, ge=0.5, le=0.999)
    resamples: int = Field(1000, ge=100, le=10_000)
    judge: JudgeSpec | None = None

    @model_validator(mode="after")
    def _one_way_to_name_data(self) -> Self:
        if (self.dataset_id is None) == (self.held_out_of is None):
            raise ValueError("give either dataset_id or held_out_of")
        if self.held_out_of is not None and self.tag_column is not None:
            raise ValueError("tag_column names a column of dataset_id; held-out rows have no tags")
        return self

    @model_validator(mode="after")
    def _candidates_are_different(self) -> Self:
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("candidates names one model twice")
        if self.baseline is not None and self.baseline not in self.candidates:
            raise ValueError("baseline must be one of the candidates")
        return self

    @model_validator(mode="after")
    def _metrics_are_known(self) -> Self:
        if self.metrics == "auto":
            return self
        if not self.metrics:
            raise ValueError("metrics: name at least one, or auto")
        for name in self.metrics:
            if name not in NAMES:
                raise ValueError(
                    f"metrics: there is no {name[:40]!r}; there are {', '.join(NAMES)}"
                )
        return self

    @property
    def baseline_place(self) -> int:
        return 0 if self.baseline is None else self.candidates.index(self.baseline)
