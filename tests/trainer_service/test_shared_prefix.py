"""Rows that begin alike give the same loss and gradients however often their beginning is read."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MistralForCausalLM

from tests.trainer_service.families import CONFIGS, OTHERS
from tests.trainer_service.test_supervised_loss import assert_same, scores_and_gradients, tiny_gemma
from tests.trainer_service.tiny import tiny_config
from trainer_service.batching import PassLimits, collate_rows, cut_to_passes
from trainer_service.passes import shared_tokens
from trainer_service.shared_prefix import Packing, PrefixReader, common_length, pack, packing_of
from trainer_service.supervised_loss import SupervisedLoss
from trainer_service.tokenizing import IGNORED, PairRow, Row

CAUSAL = [name for name in CONFIGS | OTHERS if "t5" not in name]
some_rows = st.lists(
    st.lists(st.integers(3, 5), min_size=1, max_size=12).map(tuple), min_size=1, max_size=6
)


def a_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows of different lengths; the first 20 of their tokens are the same."""
    beginning = tuple(range(3, 23))
    rows = []
    for index, length in enumerate((9, 15, 12)):
        tokens = beginning + tuple(range(30 + 20 * index, 30 + 20 * index + length))
        # Of the beginning something is learned, too.
        rows.append(Row(tokens, (IGNORED,) * 17 + tokens[17:-4] + (IGNORED,) * 4))
    batch = collate_rows(rows, pad_token_id=0)
    return batch.input_ids, batch.labels


def a_model(name: str) -> Any:
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config((CONFIGS | OTHERS)[name]())


def of_two_ways(model: Any) -> list[tuple[torch.Tensor, int, torch.Tensor]]:
    """Loss, hits and the gradient of the embeddings, rows packed and rows as they are."""
    packed, plain = SupervisedLoss(model), SupervisedLoss(model)
    assert packed.packs
    plain.read.packs = False
    weight = model.get_input_embeddings().weight
    return scores_and_gradients(
        model, weight, lambda: packed(*a_batch()), lambda: plain(*a_batch())
    )


@pytest.mark.parametrize("name", CAUSAL)
def test_every_architecture_gives_the_same_loss_and_gradients(name: str) -> None:
    assert_same(of_two_ways(a_model(name)))


def test_layers_that_are_computed_again_see_the_same() -> None:
    model = a_model("llama")
    model.activation_checkpointing_enable()
    model.train()
    assert_same(of_two_ways(model))


def test_fewer_tokens_go_through_the_layers() -> None:
    model = a_model("llama")
    seen: list[torch.Size] = []
    model.model.layers[0].mlp.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[:2])
    )
    loss = SupervisedLoss(model)
    seen.clear()
    loss(*a_batch())
    assert seen == [(1, 20 + 3 * 15)]


def test_what_pads_and_what_is_written_stay_the_same() -> None:
    """The model is still used as usual: with padding on the left, and to write answers."""
    prompts, mask = torch.arange(3, 23).view(2, 10), torch.ones(2, 10, dtype=torch.long)
    mask[0, :4] = 0

    def answers(model: Any) -> torch.Tensor:
        written: torch.Tensor = model.generate(
            prompts, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0
        )
        return written

    expected = answers(a_model("llama").eval())
    model = a_model("llama").eval()
    assert SupervisedLoss(model).packs
    assert torch.equal(answers(model), expected)


def dropping_out() -> Any:
    return LlamaForCausalLM(tiny_config(attention_dropout=0.1))


def in_half_precision() -> Any:
    return LlamaForCausalLM(tiny_config()).bfloat16()


@pytest.mark.parametrize("make", [dropping_out, in_half_precision, tiny_gemma])
def test_where_it_would_not_be_the_same_rows_are_read_as_they_are(make: Callable[[], Any]) -> None:
    """Gemma 2 has layers that see only so far, and caps what they find."""
    model = make()
    attention = model.config._attn_implementation
    assert not PrefixReader(model).packs
    assert model.config._attn_implementation == attention


def test_rows_longer_than_a_model_sees_are_read_as_they_are() -> None:
    config = OTHERS["mistral"]()
    config.sliding_window = 30
    model: Any = MistralForCausalLM(config)
    loss = SupervisedLoss(model)
    widths: list[int] = []
    model.model.layers[0].mlp.register_forward_pre_hook(
        lambda _, inputs: widths.append(inputs[0].shape[1])
    )
    input_ids, labels = a_batch()
    loss(input_ids, labels)
    loss(input_ids[:, :30], labels[:, :30])
    assert widths == [35, 20 + 3 * 10]


@given(some_rows)
def test_every_token_of_every_row_has_its_place(rows: list[tuple[int, ...]]) -> None:
    width = max(map(len, rows))
    input_ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    packing = packing_of(input_ids)
    packed = pack(input_ids, packing)
    assert packed.tokens.shape == packed.positions.shape == (1, packing.tokens)
    assert torch.equal(packed.tokens[0][packed.places], input_ids)
    assert torch.equal(
        packed.positions[0][packed.places], torch.arange(width).expand(len(rows), -1)
    )


@given(some_rows)
def test_what_rows_have_in_common_is_their_longest_common_beginning(
    rows: list[tuple[int, ...]],
) -> None:
    shared = common_length(rows)
    assert len({row[:shared] for row in rows}) == 1
    assert shared == min(map(len, rows)) or len({row[: shared + 1] for row in rows}) > 1
    assert shared_tokens([Row(row, row) for row in rows]) == shared


def test_nothing_that_an_encoder_reads_is_shared() -> None:
    assert shared_tokens([PairRow((5, 6), (7,)), PairRow((5, 6), (8,))]) == 0


def test_packing_pays_where_enough_is_read_once() -> None:
    assert Packing(rows=4, shared=24, width=184).pays
    assert not Packing(rows=4, shared=8, width=184).pays
    assert not Packing(rows=1, shared=183, width=184).pays


def test_a_pass_holds_more_rows_where_their_beginning_is_read_once() -> None:
    sizes = [(0, 100)] * 12
    assert cut_to_passes(sizes, PassLimits(12, 400))[0] == [0, 1, 2, 3]
    assert cut_to_passes(sizes, PassLimits(12, 400, shared=40))[0] == [0, 1, 2, 3, 4, 5]
    # What attention sees counts as well: twice as much at most.
    assert cut_to_passes(sizes, PassLimits(12, 400, shared=90))[0] == [0, 1, 2, 3, 4, 5, 6, 7]
