"""Shows a dataset as it came and as a model will see it, what is learned marked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gateway.chat_templates import load_chat_template
from gateway.datasets.tables import open_table, problems_for
from gateway.tables import Dataset
from gateway.template_process import Conversation, render_apart
from shared.datasets import Record, read_records
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
    try:
        return first_rows(storage.dataset_source(dataset.id), dataset.file_type, limit)
    except FileNotFoundError as error:
        raise _gone() from error


def first_rows(path: Path, file_type: str, limit: int) -> list[dict[str, str]]:
    # What an older version took is shown, even where this one would refuse it.
    problems = problems_for(file_type, skip=True)
    with open_table(path, file_type, problems, check_text=False) as table:
        return [
            {encodable(name): _cut(value) for name, value in values.items()}
            for _, values in islice(table.rows, limit)
        ]


def _cut(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return encodable(text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}…")


def encodable(text: str) -> str:
    """The text as an answer can hold it: half of a surrogate pair stands as its escape."""
    return text.encode(errors="backslashreplace").decode()


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
    if template is None:
        return [_with_roles(record) for record in records]
    texts = render_apart(template, [_conversation(record) for record in records])
    return [
        (_through([*map(encodable, found)], template.eos_token) if found else None)
        or _with_roles(record)
        for record, found in zip(records, texts, strict=True)
    ]


def _conversation(record: Record) -> Conversation:
    """Each learned turn is what the template adds for it after the generation prompt; and all."""
    learned = [index for index, message in enumerate(record.messages) if message.learned]
    prompts = [prompt for index in learned for prompt in ((index, True), (index + 1, False))]
    return Conversation(
        turns=tuple((message.role, message.content) for message in record.messages),
        prompts=(*prompts, (len(record.messages), False)),
    )


def _with_roles(record: Record) -> list[Segment]:
    return [
        segment
        for message in record.messages
        for segment in (
            Segment(f"{message.role}: ", False),
            Segment(message.content, message.learned),
            Segment("\n", False),
        )
    ]


def _through(texts: Sequence[str], eos_token: str) -> list[Segment] | None:
    """The texts of `_conversation` in pieces; what is learned ends with the token that ends an
    answer. None where the template rewrites earlier turns: nothing can be marked truthfully."""
    *pairs, whole = texts
    segments: list[Segment] = []
    done = ""
    for before, after in zip(pairs[::2], pairs[1::2], strict=True):
        if not (before.startswith(done) and after.startswith(before)):
            return None
        answer, rest = _split(after[len(before) :], eos_token)
        segments += [Segment(before[len(done) :], False), Segment(answer, True)]
        done = after[: len(after) - len(rest)]
    segments.append(Segment(whole[len(done) :], False))
    return [segment for segment in segments if segment.text]


def _split(text: str, eos_token: str) -> tuple[str, str]:
    place = text.rfind(eos_token) if eos_token else -1
    end = place + len(eos_token) if place >= 0 else len(text)
    return text[:end], text[end:]
