"""What a synthesis is asked to be. Flat, so that a YAML file and a form hold the same. Pure."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_ROWS = 5000
MAX_TEXT = 20_000
MAX_LEAKAGE = 10
# What is longer is cut off.
MAX_ANSWER = 200_000

Axis = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
# How one row is made another, where nobody says how.
AXES = (
    "another subject from everyday life or work",
    "a longer and more detailed question",
    "a shorter question",
    "other words and another style for what is asked",
    "an unusual or difficult case",
)


class Wishes(BaseModel):
    """How rows are generated and sifted, wherever the data comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, max_length=500, description="who writes the rows")
    count: int = Field(50, ge=1, le=MAX_ROWS, description="rows that are wanted")
    instructions: str = Field("", max_length=MAX_TEXT, description="what the rows are to be like")
    per_request: int = Field(4, ge=1, le=20, description="rows asked for at once")
    shots: int = Field(4, ge=1, le=12, description="example rows in each request")
    variations: float = Field(
        0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="share of requests that vary one row along an axis; others ask for new rows",
    )
    axes: tuple[Axis, ...] = Field(
        AXES, min_length=1, max_length=20, description="ways in which rows are varied"
    )
    temperature: float = Field(0.9, ge=0, le=2, allow_inf_nan=False, description="of the writer")
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False, description="of the writer")
    max_tokens: int = Field(2048, ge=16, le=131_072, description="of an answer with several rows")
    seed: int = Field(42, ge=0, le=2**31 - 1, description="of all chance")
    max_requests: int | None = Field(
        None, ge=1, le=20_000, description="requests at most; default: for four times the rows"
    )
    min_characters: int | None = Field(
        None, ge=1, le=MAX_ANSWER, description="of an answer; default: by the seed's"
    )
    max_characters: int | None = Field(
        None, ge=1, le=MAX_ANSWER, description="of an answer; default: by the seed's"
    )
    near_duplicate: float = Field(
        0.6,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="questions that share so much are the same (1: equal texts alone)",
    )
    leak_similarity: float = Field(
        0.6,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="a row that shares so much with an evaluation's is a leak",
    )
    judge: str | None = Field(
        None, min_length=1, max_length=500, description="a model that judges the rows"
    )
    min_score: float = Field(
        4, ge=1, le=5, allow_inf_nan=False, description="of the judge, from 1 to 5"
    )
    rubric: str = Field("", max_length=MAX_TEXT, description="what the judge looks at")
    render: bool | Literal["auto"] = Field(
        "auto", description="draw each diagram; auto: where the seed's answers are diagrams"
    )

    @model_validator(mode="after")
    def _lengths_leave_room(self) -> Self:
        least, most = self.min_characters, self.max_characters
        if least is not None and most is not None and least > most:
            raise ValueError("min_characters must not lie above max_characters")
        return self

    @property
    def request_limit(self) -> int:
        """A model whose rows are mostly dropped is not asked for ever."""
        return self.max_requests or math.ceil(4 * self.count / self.per_request) + 4


class SynthesisSpec(Wishes):
    """A seed dataset, an evaluation whose failures show what is lacking, or both: then the failures
    are the examples, and the dataset is what the new rows go to."""

    name: str = Field(
        "",
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="of the new dataset; default: the seed dataset's",
    )
    dataset_id: str | None = Field(None, min_length=1, max_length=80)
    evaluation_id: str | None = Field(None, min_length=1, max_length=80)
    candidate: int = Field(0, ge=0, le=100, description="Whose failures: its place, from 0.")
    metric: str | None = Field(None, max_length=60, description="Default: the evaluation's first.")
    below: float = Field(
        0.5, allow_inf_nan=False, description="Examples with a lower score are failures."
    )
    clusters: int | Literal["auto"] = Field("auto", description="Kinds of failures, 1 to 12.")
    leakage: tuple[str, ...] = Field(
        (), max_length=MAX_LEAKAGE, description="Datasets whose rows must not come out again."
    )

    @model_validator(mode="after")
    def _something_to_begin_with(self) -> Self:
        if self.dataset_id is None and self.evaluation_id is None:
            raise ValueError("give dataset_id, or evaluation_id, or both")
        if self.clusters != "auto" and not 1 <= self.clusters <= 12:
            raise ValueError("clusters must be auto or 1 to 12")
        return self
