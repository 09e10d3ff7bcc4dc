"""The loss at learned places alone equals the loss of the whole model, and so do its gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.trainer_service.tiny import tiny_config
from trainer_service.batching import PairBatch, collate_pairs, collate_rows
from trainer_service.head_loss import Score
from trainer_service.supervised_loss import Seq2SeqLoss, SupervisedLoss
from trainer_service.tokenizing import IGNORED, PairRow, Row


def tiny_gemma() -> Gemma2ForCausalLM:
    """Caps its logits after the head."""
    config = Gemma2Config(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=0.1,
        pad_token_id=0,
    )
    return Gemma2ForCausalLM(config)


def a_batch() -> tuple[torch.Tensor, torch.Tensor]:
    long = tuple(range(3, 40))
    short = tuple(range(50, 70))
    rows = [
        Row(long, (IGNORED,) * 20 + long[20:]),
        Row(short, (IGNORED,) * 5 + short[5:10] + (IGNORED,) * 4 + short[14:]),
    ]
    batch = collate_rows(rows, pad_token_id=0)
    return batch.input_ids, batch.labels


def whole_loss(model: Any, input_ids: torch.Tensor, labels: torch.Tensor) -> Score:
    """The plain way: mask padding, all logits, ignore what is not learned."""
    mask = (input_ids != 0).long()
    return whole_score(model(input_ids=input_ids, attention_mask=mask).logits, labels)


def whole_score(logits: torch.Tensor, labels: torch.Tensor) -> Score:
    loss = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return Score(loss, (logits.argmax(-1) == labels).sum())


def scores_and_gradients(
    model: Any, weight: torch.Tensor, *ways: Callable[[], Score]
) -> list[tuple[torch.Tensor, int, torch.Tensor]]:
    """Of each way to compute it: the loss, how many places were right, a gradient."""
    results = []
    for compute in ways:
        model.zero_grad()
        score = compute()
        score.loss.backward()
        assert weight.grad is not None
        results.append((score.loss.detach(), int(score.correct), weight.grad.clone()))
    return results


def assert_same(results: list[tuple[torch.Tensor, int, torch.Tensor]]) -> None:
    (ours, our_hits, our_gradient), (theirs, their_hits, their_gradient) = results
    assert torch.allclose(ours, theirs, rtol=1e-5)
    assert our_hits == their_hits
    assert torch.allclose(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["frozen head", "learning head", "untied head", "capped logits"])
def test_loss_and_gradients_are_those_of_the_whole_model(kind: str) -> None:
    torch.manual_seed(1)
    config = tiny_config(tie_word_embeddings=kind != "untied head")
    model: Any = tiny_gemma() if kind == "capped logits" else LlamaForCausalLM(config)
    head = model.get_output_embeddings().weight
    head.requires_grad_(kind in ("learning head", "untied head"))
    loss = SupervisedLoss(model)
    assert loss.direct == (kind != "capped logits")
    learns = head if head.requires_grad else model.model.layers[0].self_attn.q_proj.weight
    batch = a_batch()
    ways = (lambda: loss(*batch), lambda: whole_loss(model, *batch))
    assert_same(scores_and_gradients(model, learns, *ways))


def test_without_gradients_the_score_is_the_same() -> None:
    torch.manual_seed(1)
    model: Any = LlamaForCausalLM(tiny_config())
    loss = SupervisedLoss(model)
    learned = loss(*a_batch())
    with torch.no_grad():
        seen = loss(*a_batch())
    assert not seen.loss.requires_grad
    assert torch.allclose(seen.loss, learned.loss) and seen.correct == learned.correct


def tiny_t5(**changes: Any) -> T5ForConditionalGeneration:
    config = T5Config(
        vocab_size=64,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        **changes,
    )
    model = T5ForConditionalGeneration(config)
    # Random weights of the usual size say next to nothing: all logits would look alike.
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return model


def pairs() -> PairBatch:
    rows = [
        PairRow(tuple(range(3, 25)), (7, 8, 9, 1)),
        PairRow(tuple(range(30, 37)), (10, 11, 12, 13, 14, 1)),
    ]
    return collate_pairs(rows, pad_token_id=0)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_seq2seq_loss_is_that_of_the_whole_model(scaled: bool, frozen: bool) -> None:
    """The first T5 models scale what meets the head, the later ones do not."""
    torch.manual_seed(1)
    model: Any = tiny_t5()
    model.config.scale_decoder_outputs = scaled
    model.get_output_embeddings().weight.requires_grad_(not frozen)
    loss = Seq2SeqLoss(model)
    assert loss.scale == pytest.approx(32**-0.5 if scaled else 1)
    attention = model.encoder.block[0].layer[0].SelfAttention
    learns = attention.q.weight if frozen else model.shared.weight
    ids, mask, labels = pairs()

    def whole() -> Score:
        return whole_score(model(input_ids=ids, attention_mask=mask, labels=labels).logits, labels)

    ways = (lambda: loss(ids, mask, labels), whole)
    assert_same(scores_and_gradients(model, learns, *ways))


def test_a_head_of_another_kind_is_left_to_the_model() -> None:
    torch.manual_seed(1)
    model: Any = tiny_t5()
    forward = model.forward

    def doubled(**arguments: Any) -> Any:
        output = forward(**arguments)
        output.logits = 2 * output.logits
        return output

    model.forward = doubled
    loss = Seq2SeqLoss(model)
    assert loss.scale is None
    ids, mask, labels = pairs()
    whole = whole_score(
        model(input_ids=ids, attention_mask=mask, decoder_input_ids=loss._begun(labels)).logits,
        labels,
    )
    score = loss(ids, mask, labels)
    assert torch.allclose(score.loss, whole.loss) and score.correct == whole.correct
