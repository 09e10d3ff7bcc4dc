"""What a model in training can do: its validation loss, and answers to read; changes nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from shared.datasets import Record
from shared.prompt_template import PromptTemplate
from shared.run_events import Sampled
from trainer_service.batching import collate, cut_to_passes
from trainer_service.supervised_loss import SupervisedLoss
from trainer_service.tokenizing import Row, render

EVAL_PASS_TOKENS = 2048
SAMPLES = 2
SAMPLE_TOKENS = 48
SAMPLE_CHARACTERS = 2000


@torch.no_grad()
def validation_loss(
    loss: SupervisedLoss,
    rows: Sequence[Row],
    *,
    device: str,
    pad_token_id: int,
    check: Callable[[], None],
) -> float:
    """Mean loss over the learned tokens; ``check`` is called between passes and may raise."""
    lengths = [len(row.tokens) for row in rows]
    total = 0.0
    for part in cut_to_passes(
        lengths, range(len(rows)), max_rows=len(rows), max_tokens=EVAL_PASS_TOKENS
    ):
        check()
        batch = collate([rows[index] for index in part], pad_token_id=pad_token_id).on(device)
        total += loss(*batch).item()
    return total / sum(row.supervised for row in rows)


@torch.no_grad()
def write_samples(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    records: Sequence[Record],
    *,
    step: int,
    pad_token_id: int,
) -> list[Sampled]:
    """The beginnings of greedy answers to the first records, in one batch padded on the left."""
    chosen = records[:SAMPLES]
    if not chosen:
        return []
    prompts = [
        tokenizer.encode(
            render(tokenizer, template, template.prepare(record.messages)[:-1], ask=True),
            add_special_tokens=False,
        )
        for record in chosen
    ]
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad_token_id] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=SAMPLE_TOKENS,
        do_sample=False,
        eos_token_id=list(template.stop_token_ids),
        pad_token_id=pad_token_id,
    )
    answers = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=settings,
    )
    return [
        Sampled(
            step=step,
            prompt=record.prompt[-1].content[:SAMPLE_CHARACTERS] if record.prompt else "",
            target=record.completion[:SAMPLE_CHARACTERS],
            output=str(tokenizer.decode(answer[width:], skip_special_tokens=True)),
        )
        for record, answer in zip(chosen, answers, strict=True)
    ]
