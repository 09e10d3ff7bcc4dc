"""What a model in training can do: its validation loss, and answers to read; changes nothing."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from shared.datasets import Record
from shared.prompt_template import PromptTemplate
from shared.run_events import Sampled
from trainer_service.batching import PassLimits, collate
from trainer_service.data_parallel import Ranks
from trainer_service.head_loss import Score
from trainer_service.passes import own_passes, shared_tokens
from trainer_service.seq2seq_tokenizing import source_text, source_tokens
from trainer_service.supervised_loss import decoder_start
from trainer_service.tokenizing import AnyRow, render

EVAL_PASS_TOKENS = 2048
SAMPLES = 2
SAMPLE_TOKENS = 48
SAMPLE_CHARACTERS = 2000


class Evaluation(NamedTuple):
    """Mean loss over learned tokens, and the share of them that the model would have written."""

    loss: float
    accuracy: float


@torch.no_grad()
def validation_loss(
    loss: Callable[..., Score],
    rows: Sequence[AnyRow],
    *,
    device: str,
    pad_token_id: int,
    check: Callable[[], None],
    packs: bool = False,
    ranks: Ranks | None = None,
) -> Evaluation:
    """``check`` is called between passes and may raise. ``packs``: as for `Optimizer`.
    Of several processes each takes a share of the rows, and all get the same result."""
    ranks = ranks or Ranks()
    learned = sum(row.supervised for row in rows)
    total, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    limits = PassLimits(len(rows), EVAL_PASS_TOKENS, shared_tokens(rows) if packs else None)
    for part in own_passes(rows, ranks, limits):
        check()
        score = loss(*collate(part, pad_token_id=pad_token_id).on(device))
        total += score.loss
        correct += score.correct
    both = ranks.sum(torch.stack([total, correct]))
    return Evaluation(*(both / learned).tolist())


@torch.no_grad()
def write_samples(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    records: Sequence[Record],
    *,
    step: int,
    pad_token_id: int,
    context_length: int,
    max_source_length: int,
    generate: Callable[..., torch.Tensor] | None = None,
) -> list[Sampled]:
    """The beginnings of greedy answers to the first sources, in one batch. ``generate``: the
    model's own, in the way that the model may be used."""
    seq2seq = template.family == "seq2seq"
    read = _read_source if seq2seq else _read_prompt
    prompts = [
        (record, read(tokenizer, template, record, max_source_length))
        for record in _first_of_each_source(records)
    ]
    # Learned positions end with the context; a decoder behind an encoder begins at its own first.
    room = (
        SAMPLE_TOKENS if seq2seq else context_length - max((len(p) for _, p in prompts), default=0)
    )
    if not prompts or room < 1:
        return []
    ids, mask = _padded([prompt for _, prompt in prompts], pad_token_id, left=not seq2seq)
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=min(SAMPLE_TOKENS, room),
        do_sample=False,
        eos_token_id=list(template.stop_token_ids),
        pad_token_id=pad_token_id,
        decoder_start_token_id=decoder_start(model.config) if seq2seq else None,
    )
    answers = (generate or model.generate)(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=settings,
    )
    begin = 1 if seq2seq else ids.shape[1]
    return [
        Sampled(
            step=step,
            prompt=record.prompt[-1].content[:SAMPLE_CHARACTERS] if record.prompt else "",
            target=record.completion[:SAMPLE_CHARACTERS],
            output=str(tokenizer.decode(answer[begin:], skip_special_tokens=True)),
        )
        for (record, _), answer in zip(prompts, answers, strict=True)
    ]


def _first_of_each_source(records: Sequence[Record]) -> list[Record]:
    """Several answers to one text may follow each other: its answer is written once."""
    found: dict[str, Record] = {}
    for record in records:
        found.setdefault(record.source_key, record)
        if len(found) == SAMPLES:
            break
    return list(found.values())


def _read_prompt(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, record: Record, _: int
) -> list[int]:
    text = render(tokenizer, template, template.prepare(record.messages)[:-1], ask=True)
    return list(tokenizer.encode(text, add_special_tokens=False))


def _read_source(
    tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, record: Record, longest: int
) -> list[int]:
    text = source_text(template, record.prompt)
    return list(source_tokens(tokenizer, text, max_length=longest)[0])


def _padded(
    rows: Sequence[Sequence[int]], filler: int, *, left: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask: answers of causal models go on at the right end of their prompts."""
    width = max(map(len, rows))
    gaps = [width - len(row) for row in rows]
    if left:
        ids = [[filler] * gap + list(row) for gap, row in zip(gaps, rows, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
    else:
        ids = [list(row) + [filler] * gap for gap, row in zip(gaps, rows, strict=True)]
        mask = [[1] * (width - gap) + [0] * gap for gap in gaps]
    return torch.tensor(ids), torch.tensor(mask)
