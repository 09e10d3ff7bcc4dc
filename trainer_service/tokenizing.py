"""Turns records into token rows with marks on what is learned; knows no model and no batches."""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from shared.datasets import Message, Record
from shared.errors import InvalidData
from shared.prompt_template import PromptTemplate

log = logging.getLogger(__name__)

IGNORED = -100


@dataclass(frozen=True)
class Row:
    """One sequence. ``labels`` repeats the token where it is learned, else `IGNORED`."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def supervised(self) -> int:
        """How many tokens are predicted: a first token has nothing before it."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class _Piece:
    text: str
    learned: bool


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, generation_eos: Any) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's own first, then those of the model's
    generation config (an id or a list: chat models often name an end of turn there)."""
    listed = generation_eos if isinstance(generation_eos, list) else [generation_eos]
    ids = [tokenizer.eos_token_id, *listed]
    return tuple(dict.fromkeys(int(value) for value in ids if value is not None))


def render(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    messages: Sequence[Message],
    *,
    ask: bool,
) -> str:
    """The text of a conversation; with ``ask`` it ends where the model shall go on."""
    if not template.chat_template:
        text = "\n".join(message.content for message in messages)
        return text + "\n" if ask and messages else text
    rendered = tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
        chat_template=template.chat_template,
        tokenize=False,
        add_generation_prompt=ask,
    )
    return str(rendered)


def tokenize_record(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, record: Record
) -> list[Row]:
    """The rows of one record: one, or one a learned turn where the template rewrites the past."""
    messages = template.prepare(record.messages)
    try:
        pieces = _conversation_pieces(tokenizer, template, messages)
        rows = [pieces] if pieces else _turn_pieces(tokenizer, template, messages)
    except Exception as error:
        # A template raises what it likes (jinja2.TemplateError, TypeError): all mean bad data.
        raise InvalidData(f"The chat template refuses a record: {error}") from error
    return [_to_row(tokenizer, template, row) for row in rows]


def _conversation_pieces(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, messages: Sequence[Message]
) -> list[_Piece]:
    """The whole conversation cut at its learned turns; empty where prefixes do not agree, as with
    templates that drop earlier reasoning or need the user's turn to come next."""
    whole = render(tokenizer, template, messages, ask=False)
    pieces: list[_Piece] = []
    position = 0
    for index, message in enumerate(messages):
        if not message.learned:
            continue
        before = render(tokenizer, template, messages[:index], ask=True)
        after = render(tokenizer, template, messages[: index + 1], ask=False)
        if not (whole.startswith(after) and after.startswith(before) and len(before) >= position):
            return []
        pieces.append(_Piece(whole[position : len(before)], learned=False))
        pieces.append(_Piece(whole[len(before) : len(after)], learned=True))
        position = len(after)
    return pieces


def _turn_pieces(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, messages: Sequence[Message]
) -> list[list[_Piece]]:
    """Each learned turn for itself, after the prompt that it will be asked with."""
    return [
        [
            _Piece(render(tokenizer, template, messages[:index], ask=True), learned=False),
            _Piece(message.content, learned=True),
        ]
        for index, message in enumerate(messages)
        if message.learned
    ]


def _to_row(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, pieces: Sequence[_Piece]
) -> Row:
    tokens: list[int] = []
    labels: list[int] = []
    for place, piece in enumerate(pieces):
        # Pieces are encoded one by one, so that a prompt has the same tokens as in serving.
        ids = list(tokenizer.encode(piece.text, add_special_tokens=False))
        learned = 0
        if piece.learned:
            ids, learned = _end_turn(ids, template.stop_token_ids, last=place == len(pieces) - 1)
        tokens += ids
        labels += ids[:learned] + [IGNORED] * (len(ids) - learned)
    return Row(tuple(tokens), tuple(labels))


def _end_turn(ids: list[int], stops: tuple[int, ...], *, last: bool) -> tuple[list[int], int]:
    """The tokens of an answer, and how many of them are learned: up to its end-of-turn token.

    A model that never learned to end never stops; an answer that the template leaves open gets
    the end-of-text token.
    """
    ends = [index for index, token in enumerate(ids) if token in stops]
    if ends:
        length = ends[-1] + 1
        return (ids[:length] if last else ids), length
    return ([*ids, stops[0]], len(ids) + 1) if last else (ids, len(ids))


class _Tokenized(NamedTuple):
    """All rows of some records; those that fit; and the records of which none was left out."""

    rows: list[Row]
    kept: list[Row]
    whole: list[Record]


def tokenize_records(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    records: Iterable[Record],
    *,
    max_length: int,
) -> list[Row]:
    """All rows that fit. Longer ones are left out whole, and counted in the log: an answer cut
    in the middle would teach the model to stop there. InvalidData where no row fits."""
    rows, kept, _ = _tokenize(tokenizer, template, records, max_length, "rows")
    if rows and not kept:
        raise InvalidData(
            f"Every row is longer than max_length ({max_length} tokens; the shortest has "
            f"{min(len(row.tokens) for row in rows)}). Raise max_length or shorten the texts.",
            param="max_length",
        )
    return kept


def tokenize_validation(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    records: Iterable[Record],
    *,
    max_length: int,
) -> tuple[list[Row], list[Record]]:
    """The rows that fit, and the records of which none was left out: a model in training can be
    asked for their answers. Both empty where no row fits; the log says so."""
    rows, kept, whole = _tokenize(tokenizer, template, records, max_length, "validation rows")
    if rows and not kept:
        log.warning(
            "No validation row fits max_length %d: the run goes on without validation.", max_length
        )
    return kept, whole


def _tokenize(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    records: Iterable[Record],
    max_length: int,
    what: str,
) -> _Tokenized:
    made = _Tokenized([], [], [])
    for record in records:
        rows = tokenize_record(tokenizer, template, record)
        fitting = [row for row in rows if len(row.tokens) <= max_length and row.supervised]
        made.rows.extend(rows)
        made.kept.extend(fitting)
        if len(fitting) == len(rows):
            made.whole.append(record)
    if dropped := len(made.rows) - len(made.kept):
        log.warning(
            "%d of %d %s left out: longer than max_length %d tokens (the longest has %d).",
            dropped,
            len(made.rows),
            what,
            max_length,
            max(len(row.tokens) for row in made.rows),
        )
    if any(not set(row.labels) & set(template.stop_token_ids) for row in made.kept):
        raise InvalidData("A row does not teach the model to stop: its end token is not learned.")
    return made


def split_by_source(
    records: Sequence[Record], *, share: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """Training and validation records. Answers to one source text never part; with two sources or
    more neither side is empty, unless ``share`` is 0."""
    keys = sorted(
        {record.source_key for record in records},
        key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest(),
    )
    count = min(max(1, round(len(keys) * share)), len(keys) - 1) if share > 0 and keys else 0
    held_out = set(keys[:count])
    training = [record for record in records if record.source_key not in held_out]
    return training, [record for record in records if record.source_key in held_out]
