"""What is asked of the candidates: the records of some data, those of one source as one example
with several references. Knows files and records, no database."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.datasets.formats import Columns, choose_format, to_record
from gateway.datasets.tables import open_table, problems_for
from gateway.tables import Dataset
from shared.datasets import Message, Record
from shared.errors import GenPlatError
from shared.storage import Storage

# The columns that are taken for tags, the first one that there is.
TAG_COLUMNS = ("tag", "tags", "category", "kind", "type", "topic", "domain", "group")
MAX_TAG = 60


@dataclass
class Example:
    """``row``: the place of its first record in the data. ``source``: what the user said last."""

    row: int
    messages: tuple[Message, ...]
    references: list[str] = field(default_factory=list)
    tag: str | None = None

    @property
    def source(self) -> str:
        said = [message.content for message in self.messages if message.role == "user"]
        return said[-1] if said else "\n".join(message.content for message in self.messages)


def grouped(records: Sequence[Record], tags: Mapping[int, str] | None = None) -> list[Example]:
    """In the order of the data; equal answers to one source are one reference."""
    found: dict[str, Example] = {}
    for row, record in enumerate(records):
        own = found.setdefault(
            record.source_key, Example(row, record.prompt, tag=(tags or {}).get(row))
        )
        if record.completion not in own.references:
            own.references.append(record.completion)
    return list(found.values())


def drawn(examples: Sequence[Example], *, limit: int | None, seed: int) -> list[Example]:
    """All, or ``limit`` of them by chance, in their order."""
    if limit is None or limit >= len(examples):
        return list(examples)
    # Not a secret: the same examples must be drawn again.
    source = random.Random(f"examples:{seed}")  # noqa: S311
    return [examples[place] for place in sorted(source.sample(range(len(examples)), limit))]


def tag_column(dataset: Dataset, wanted: str | None) -> str | None:
    """The column to slice by; None where there is none."""
    if wanted:
        return wanted if wanted in dataset.columns else None
    used = set((dataset.mapping or {}).values())
    known = {name.strip().lower(): name for name in dataset.columns if name not in used}
    return next((known[name] for name in TAG_COLUMNS if name in known), None)


def read_tags(storage: Storage, dataset: Dataset, column: str) -> dict[int, str]:
    """Each record's value in a column of the file that it came from, by the record's place; empty
    where they cannot be told to belong together any more."""
    try:
        tags = list(_tags(storage, dataset, column))
    except (GenPlatError, OSError):
        return {}
    return dict(enumerate(tags)) if len(tags) == dataset.rows else {}


def _tags(storage: Storage, dataset: Dataset, column: str) -> Iterator[str]:
    path, kind = storage.dataset_source(dataset.id), dataset.file_type
    problems = problems_for(kind, skip=bool(dataset.skipped_rows))
    with open_table(path, kind, problems) as table:
        form = choose_format(table.columns, _named(dataset), nested=table.nested, problems=problems)
        for line, values in table.rows:
            if to_record(values, form, line=line, problems=problems) is not None:
                yield _tag(values.get(column))


def _named(dataset: Dataset) -> Columns:
    """The columns that may have been named at the upload."""
    mapping = dataset.mapping or {}
    uses = ["text_column", "target_column"] if dataset.format == "text/target" else []
    uses.append("system_column")
    return Columns(**{use: mapping[use] for use in uses if mapping.get(use) in dataset.columns})


def _tag(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else str(value)
    # (PostgreSQL refuses NUL.)
    return " ".join(text.replace("\x00", " ").split())[:MAX_TAG]
