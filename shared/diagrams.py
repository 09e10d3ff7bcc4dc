"""PlantUML mode as it crosses process boundaries."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DiagramFormat = Literal["svg", "png"]
MAX_SOURCE_BYTES = 50_000
MAX_ATTEMPTS = 8


class DiagramOptions(BaseModel):
    """The ``diagram`` field of a chat request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: DiagramFormat = "svg"
    max_attempts: int = Field(3, ge=1, le=MAX_ATTEMPTS)


class RenderError(BaseModel):
    """The renderer's own words. ``line`` counts from 1 in the source; None where it named none."""

    model_config = ConfigDict(frozen=True)

    line: int | None = None
    message: str


class RenderedDiagram(BaseModel):
    """A source and what became of it: ``svg`` text and ``png`` in base64 where it rendered."""

    model_config = ConfigDict(frozen=True)

    source: str
    rendered: bool
    attempts: int = 0
    svg: str | None = None
    png: str | None = None
    error: RenderError | None = None
