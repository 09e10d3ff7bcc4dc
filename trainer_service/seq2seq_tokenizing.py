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
    ids = tuple(tokenizer.encode(text))
    return cut_source(tokenizer, ids, max_length), len(ids) > max_length


def cut_source(
    tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...], max_length: int
) -> tuple[int, ...]:
    """At most ``max_length`` of a text's tokens: it loses its end, but not the marks there."""
    if len(ids) <= max_length:
        return ids
    marks = tokenizer.num_special_tokens_to_add()
    return (*ids[: max_length - marks], *ids[len(ids) - marks :])


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, record: Record
) -> list[PairRow]:
    """A row for each learned answer of a record, behind the whole of the texts that it answers."""
    rows = []
    for place, message in enumerate(record.messages):
        if not message.learned:
            continue
        text = source_text(template, record.messages[:place])
        answer = tokenizer.encode(message.content, add_special_tokens=False)
        target = (*answer, template.stop_token_ids[0])
        rows.append(PairRow(tuple(tokenizer.encode(text)), target))
    return rows
