"""Shows a dataset as it came and as a model will see it, what is learned marked."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jinja2

from gateway.chat_templates import ChatTemplate, load_chat_template
from gateway.datasets.csv_rows import CsvRows
from gateway.datasets.jsonl_rows import jsonl_rows
from gateway.datasets.problems import Problems
from gateway.tables import Dataset
from shared.datasets import Message, Record, read_records
from shared.errors import NotFound
from shared.storage import Storage

MAX_CELL = 2000


@dataclass(frozen=True)
class Segment:
    """A piece of a rendered prompt; ``learned``: the model is trained to write it."""

    text: str
    learned: bool


def raw_rows(*, storage: Storage, dataset: Dataset, limit: int = 10) -> list[dict[str, str]]:
    """The first rows as uploaded, every value as a text, long ones cut."""
    path = storage.dataset_source(dataset.id)
    problems = Problems()
    rows: Iterable[tuple[int, dict[str, Any]]]
    try:
        rows = CsvRows(path, problems) if dataset.file_type == "csv" else jsonl_rows(path, problems)
        return [
            {name: _cut(value) for name, value in values.items()}
            for _, values in islice(rows, limit)
        ]
    except FileNotFoundError as error:
        raise _gone() from error


def _cut(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…"


def _gone() -> NotFound:
    return NotFound("The dataset's file is gone: it was deleted a moment ago.")


def rendered_rows(
    *, storage: Storage, dataset: Dataset, base_model: str, limit: int = 5
) -> list[list[Segment]]:
    """The first records through the model's chat template; where it is not prepared yet, or its
    template refuses a record, the turns with their roles."""
    template = load_chat_template(storage.base_model(base_model))
    try:
        records = list(islice(read_records(storage.dataset_records(dataset.id)), limit))
    except FileNotFoundError as error:
        raise _gone() from error
    return [_rendered(record, template) for record in records]


def _rendered(record: Record, template: ChatTemplate | None) -> list[Segment]:
    if template is not None:
        try:
            return _through(record.messages, template)
        except jinja2.TemplateError:
            pass
    return [
        segment
        for message in record.messages
        for segment in (
            Segment(f"{message.role}: ", False),
            Segment(message.content, message.learned),
            Segment("\n", False),
        )
    ]


def _through(messages: tuple[Message, ...], template: ChatTemplate) -> list[Segment]:
    """Each learned turn is what the template adds for it after the generation prompt, up to the
    token that ends an answer."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    segments: list[Segment] = []
    done = ""
    for index, message in enumerate(messages):
        if not message.learned:
            continue
        before = template.render(turns[:index], add_generation_prompt=True)
        after = template.render(turns[: index + 1], add_generation_prompt=False)
        if not (before.startswith(done) and after.startswith(before)):
            # The template rewrites earlier turns: nothing can be marked truthfully but this turn.
            raise jinja2.TemplateError("not a growing text")
        answer, rest = _split(after[len(before) :], template.eos_token)
        segments += [Segment(before[len(done) :], False), Segment(answer, True)]
        done = after[: len(after) - len(rest)]
    whole = template.render(turns, add_generation_prompt=False)
    segments.append(Segment(whole[len(done) :], False))
    return [segment for segment in segments if segment.text]


def _split(text: str, eos_token: str) -> tuple[str, str]:
    place = text.rfind(eos_token) if eos_token else -1
    end = place + len(eos_token) if place >= 0 else len(text)
    return text[:end], text[end:]
