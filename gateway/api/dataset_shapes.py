"""What datasets look like in answers, and what is sent to make them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, field_validator

from gateway.datasets import preview, store
from gateway.deps import ListPublic
from gateway.tables import Dataset

_COLUMNS: dict[str, Any] = {
    "text_column": {"type": "string", "description": "The column of the texts."},
    "target_column": {"type": "string", "description": "The column of the answers."},
    "system_column": {"type": "string", "description": "A column of system messages."},
}


def upload_schema(required: list[str], **properties: Any) -> dict[str, Any]:
    """The OpenAPI of a multipart form that is streamed, not parsed by FastAPI."""
    form = {"type": "object", "required": required, "properties": properties | _COLUMNS}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


FILE = {"type": "string", "format": "binary", "description": "csv, jsonl, json or parquet."}
UPLOAD_SCHEMA = upload_schema(
    ["name"],
    file=FILE,
    draft={"type": "string", "description": "Instead of a file: one that was inspected."},
    name={"type": "string", "maxLength": store.MAX_NAME},
    description={"type": "string", "maxLength": store.MAX_DESCRIPTION},
    skip_bad_rows={"type": "boolean", "description": "Leave out rows that are wrong."},
    sha256={"type": "string", "description": "Of the file's bytes: others are refused."},
)
INSPECT_SCHEMA = upload_schema(["file"], file=FILE)


class Encodable(BaseModel):
    """``columns`` may come from an older version, which took what no answer can hold: one such
    dataset would break every list."""

    columns: list[str]

    @field_validator("columns", mode="before")
    @classmethod
    def _encodable(cls, names: list[str]) -> list[str]:
        return [preview.encodable(name) for name in names]


class DatasetPublic(Encodable):
    """``skipped_rows`` were left out on request; ``problems`` are the first of their places."""

    id: str
    name: str
    description: str
    version: int
    filename: str
    file_type: str
    format: str
    rows: int
    bytes: int
    sha256: str
    warnings: list[str]
    skipped_rows: int
    problems: list[dict[str, Any]]
    mapping: dict[str, str] | None
    imported_from: dict[str, Any] | None
    derived_from: dict[str, Any] | None
    created_at: datetime


class DatasetList(ListPublic):
    data: list[DatasetPublic]


class SegmentPublic(BaseModel):
    """``learned``: the model is trained to write this part."""

    text: str
    learned: bool


class Preview(BaseModel):
    rows: list[dict[str, str]]
    base_model: str
    rendered: list[list[SegmentPublic]]


class InspectionPublic(Encodable):
    """A file that is not stored yet: send its ``draft`` to make it a dataset within an hour.
    ``format`` is null where no form is recognised; then ``message`` says why. ``problems`` are of
    the first ``rows_checked`` rows."""

    draft: str
    filename: str
    file_type: str
    format: str | None
    mapping: dict[str, str]
    message: str | None
    preview: list[dict[str, str]]
    rows_checked: int
    bad_rows: int
    problems: list[dict[str, Any]]


class SidePublic(BaseModel):
    rows: int
    mean_characters: float
    longest_characters: int


class DiffPublic(BaseModel):
    """From the dataset ``against`` to this one. ``changed``: the same source has another answer."""

    id: str
    against: str
    added: int
    removed: int
    unchanged: int
    changed: int
    before: SidePublic
    after: SidePublic
    columns_added: list[str]
    columns_removed: list[str]


def public(dataset: Dataset) -> DatasetPublic:
    return DatasetPublic.model_validate(dataset, from_attributes=True)
