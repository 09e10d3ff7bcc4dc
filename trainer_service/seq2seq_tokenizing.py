"""Turns records into pairs of source and target tokens for encoder-decoders; knows no model."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from shared.datasets import Message, Record
from shared.prompt_template import PromptTemplate
from trainer_service.tokenizing import PairRow


def source_text(template: PromptTemplate, messages: Sequence[Message]) -> str:
    """What the encoder reads of a conversation: its texts, joined by line breaks."""
    return "\n".join(message.content for message in template.prepare(tuple(messages)))


def source_tokens(
    tokenizer: PreTrainedTokenizerBase, text: str, *, max_length: int
) -> tuple[tuple[int, ...], bool]:
    """The tokens of ``text`` with those that the tokenizer puts around every text (T5's end mark),
    and whether its end was cut off for ``max_length``."""
    ids = tokenizer.encode(text)
    if len(ids) <= max_length:
        return tuple(ids), False
    return tuple(tokenizer.encode(text, truncation=True, max_length=max_length)), True


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    record: Record,
    *,
    max_length: int,
) -> list[PairRow]:
    """A row for each learned answer of a record, behind the texts that it answers."""
    rows = []
    for place, message in enumerate(record.messages):
        if not message.learned:
            continue
        text = source_text(template, record.messages[:place])
        source, cut = source_tokens(tokenizer, text, max_length=max_length)
        answer = tokenizer.encode(message.content, add_special_tokens=False)
        rows.append(PairRow(source, (*answer, template.stop_token_ids[0]), cut))
    return rows
