"""Turns records into token rows with marks on what is learned; knows no model and no batches.

What is here reads texts for causal models; for encoder-decoders see
`trainer_service.seq2seq_tokenizing`. `trainer_service.lessons` makes all rows of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from shared.datasets import Message, Record
from shared.errors import InvalidData
from shared.prompt_template import PromptTemplate

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

    @property
    def size(self) -> tuple[int, int]:
        """Tokens that an encoder reads, and those that the decoder does."""
        return 0, len(self.tokens)


@dataclass(frozen=True)
class PairRow:
    """A source for the encoder and the answer to it, all of which is learned. ``cut``: the source
    was longer than what may be read."""

    source: tuple[int, ...]
    target: tuple[int, ...]
    cut: bool = False

    @property
    def supervised(self) -> int:
        return len(self.target)

    @property
    def size(self) -> tuple[int, int]:
        """Tokens that the encoder reads, and those that the decoder does."""
        return len(self.source), len(self.target)


AnyRow = Row | PairRow


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
