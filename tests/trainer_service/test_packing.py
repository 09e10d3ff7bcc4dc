"""Rows that begin alike give the same loss and gradients however often their beginning is read."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MistralForCausalLM

from tests.trainer_service.families import CONFIGS, OTHERS
from tests.trainer_service.test_supervised_loss import scores_and_gradients, tiny_gemma
from tests.trainer_service.tiny import tiny_config
from trainer_service.batching import Batch, PassLimits, collate_rows, cut_to_passes
from trainer_service.packing import Packing, Reader, common_length, pack, packing_of
from trainer_service.supervised_loss import SupervisedLoss
from trainer_service.tokenizing import IGNORED, Row

CAUSAL = [name for name in CONFIGS | OTHERS if "t5" not in name]
some_rows = st.lists(
    st.lists(st.integers(3, 5), min_size=1, max_size=12).map(tuple), min_size=1, max_size=6
)


def a_batch() -> Batch:
    """Three rows of different lengths; the first 20 of their tokens are the same."""
    beginning = tuple(range(3, 23))
    rows = []
    for index, length in enumerate((9, 15, 12)):
        tokens = beginning + tuple(range(30 + 20 * index, 30 + 20 * index + length))
        # Of the beginning something is learned, too.
        rows.append(Row(tokens, (IGNORED,) * 17 + tokens[17:-4] + (IGNORED,) * 4))
    return collate_rows(rows, pad_token_id=0)


def a_model(name: str) -> Any:
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config((CONFIGS | OTHERS)[name]())


def of_two_ways(model: Any) -> list[tuple[torch.Tensor, int, torch.Tensor]]:
    """Loss, hits and the gradient of the embeddings, rows packed and rows as they are."""
    loss, batch = SupervisedLoss(model), a_batch()
    assert loss.packs and batch.packing.pays
    weight = model.get_input_embeddings().weight
    return scores_and_gradients(
        model, weight, lambda: loss(*batch), lambda: loss(batch.input_ids, batch.labels)
    )


def assert_same(results: list[tuple[torch.Tensor, int, torch.Tensor]]) -> None:
    (packed, hits, gradient), (plain, plain_hits, plain_gradient) = results
    assert packed.item() == pytest.approx(plain.item(), rel=1e-5)
    assert hits == plain_hits
    # (As a share of the whole: single small numbers round more.)
    assert (gradient - plain_gradient).norm() <= 1e-5 * plain_gradient.norm()


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
    assert seen == [(1, 20 + 9 + 15 + 12)]


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
    assert not Reader(model).packs
    assert model.config._attn_implementation == attention


def test_under_autocast_rows_are_read_as_they_are() -> None:
    """A whole model that learns on a GPU is in fp32, but computes in half precision."""
    model = a_model("llama")
    reader, batch = Reader(model), a_batch()
    learned = batch.labels != IGNORED
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = reader(batch.input_ids, learned, batch.packing)
        plain = model.get_decoder()(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    assert reader.packs and torch.equal(found, plain[learned])


def test_rows_longer_than_a_model_sees_are_read_as_they_are() -> None:
    config = OTHERS["mistral"]()
    config.sliding_window = 30
    model: Any = MistralForCausalLM(config)
    loss = SupervisedLoss(model)
    widths: list[int] = []
    model.model.layers[0].mlp.register_forward_pre_hook(
        lambda _, inputs: widths.append(inputs[0].shape[1])
    )
    batch = a_batch()
    loss(*batch)
    loss(batch.input_ids[:, :30], batch.labels[:, :30], Packing((29, 30, 30), 20))
    assert widths == [35, 20 + 9 + 10 + 10]


@given(some_rows)
def test_every_token_of_every_row_has_its_place(rows: list[tuple[int, ...]]) -> None:
    packing = packing_of(rows)
    packed = pack(packing, torch.device("cpu"))
    padded = torch.tensor([[*row, *[0] * (packing.width - len(row))] for row in rows])
    tokens = padded.flatten()[packed.sources]
    places = packed.places.view(len(rows), packing.width)
    for row, own in zip(rows, places, strict=True):
        assert tokens[own[: len(row)]].tolist() == list(row)
        assert packed.positions[own[: len(row)]].tolist() == list(range(len(row)))
    assert len(tokens) == packing.tokens
    assert sorted([*packed.sources.tolist(), *packed.others.tolist()]) == list(
        range(len(padded.flatten()))
    )


@given(some_rows)
def test_what_rows_have_in_common_is_their_longest_common_beginning(
    rows: list[tuple[int, ...]],
) -> None:
    shared = common_length(rows)
    assert len({row[:shared] for row in rows}) == 1
    assert shared == min(map(len, rows)) or len({row[: shared + 1] for row in rows}) > 1


def test_packing_pays_where_enough_is_left_out() -> None:
    assert Packing((184,) * 4, shared=24).pays
    assert Packing((150, 170, 180, 184), shared=0).pays
    assert not Packing((184,) * 4, shared=8).pays
    assert not Packing((184,), shared=184).pays


def test_a_pass_holds_more_rows_where_they_are_packed() -> None:
    def rows_a_pass(limits: PassLimits) -> list[int]:
        return [len(each) for each in cut_to_passes([(0, 100)] * 12, limits)]

    assert rows_a_pass(PassLimits(12, 400)) == [4, 4, 4]
    assert rows_a_pass(PassLimits(12, 400, shared=40)) == [6, 6]
    # What attention sees counts as well: twice as much at most.
    assert rows_a_pass(PassLimits(12, 400, shared=90)) == [4, 8]
    uneven = [(0, 50), (0, 150), (0, 200)]
    assert cut_to_passes(uneven, PassLimits(12, 400)) == [[2], [0, 1]]
    assert cut_to_passes(uneven, PassLimits(12, 400, shared=0)) == [[0, 1, 2]]
