"""Encoder-decoders beyond their tokens: prompts, limits, memory, stops, seeds, leaving."""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from inference_service.engine import base_model, seq2seq
from inference_service.engine.base_model import BaseModel, load_base_model
from inference_service.engine.engine import Engine
from inference_service.engine.kv_cache import LENGTH_STEP
from inference_service.engine.lora import load_adapter
from inference_service.engine.model_config import SEQ2SEQ_CONTEXT
from inference_service.engine.prompts import CANNOT_CONTINUE, encode_chat, encode_text
from inference_service.engine.requests import GenerationRequest, Sampling
from inference_service.engine.seq2seq_cache import Seq2SeqCache
from inference_service.generation import build_request
from inference_service.model_manager import Weights
from shared.chat import GenerationParameters
from shared.datasets import Message
from shared.errors import InvalidData, InvalidRequest
from shared.prompt_template import PromptTemplate
from tests.inference_service.adapters import save_adapter
from tests.inference_service.engine.driven import Driven
from tests.inference_service.engine.generating import collect, collect_all, prompt
from tests.inference_service.tiny_families import save_family
from tests.trainer_service.tiny import tiny_tokenizer

pytestmark = pytest.mark.anyio

TALK = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="He go."),
    Message(role="assistant", content="He goes."),
    Message(role="user", content="She go."),
)


def slot_bytes(base: BaseModel) -> int:
    """Bytes of the shortest row: of its answer or of its source."""
    decoder = base.model.get_submodule("decoder").config
    cache = Seq2SeqCache(decoder, base.dtype, base.device)  # type: ignore[arg-type]
    return LENGTH_STEP * cache.bytes_per_token


def test_a_conversation_becomes_the_source_that_training_makes(byt5: BaseModel) -> None:
    template = PromptTemplate(
        base_model=byt5.id, family="seq2seq", task_prefix="fix: ", stop_token_ids=(1,)
    )
    text = "Be brief.\nHe go.\nHe goes.\nfix: She go."
    assert list(encode_chat(byt5, template, TALK)) == byt5.tokenizer.encode(text)
    assert list(encode_chat(byt5, None, TALK)) == byt5.tokenizer.encode(text.replace("fix: ", ""))
    with pytest.raises(InvalidRequest, match="cannot go on") as refused:
        encode_chat(byt5, template, TALK, "beg")
    assert refused.value.code == CANNOT_CONTINUE
    assert list(encode_text(byt5, "fix: She go.")) == byt5.tokenizer.encode("fix: She go.")


def test_a_source_may_be_as_long_as_the_context_and_takes_nothing_from_the_answer(
    byt5: BaseModel,
) -> None:
    longest = encode_text(byt5, "x" * (SEQ2SEQ_CONTEXT - 1))
    assert len(longest) == SEQ2SEQ_CONTEXT == byt5.context_length
    with pytest.raises(InvalidRequest, match="reads at most 4096 tokens") as caught:
        encode_text(byt5, "x" * SEQ2SEQ_CONTEXT)
    assert caught.value.code == "context_length_exceeded"
    weights = Weights(byt5)

    def limit(**parameters: object) -> int:
        asked = GenerationParameters.model_validate({"model": "m", **parameters})
        return build_request(weights, longest, asked).max_new_tokens

    assert limit() == 512
    assert limit(max_tokens=3000) == 3000
    assert limit(max_tokens=100_000) == SEQ2SEQ_CONTEXT


def test_more_positions_than_usual_are_read_where_the_model_has_them(tmp_path: Path) -> None:
    save_family(tmp_path, "t5")
    change_config(tmp_path, n_positions=8192)
    assert load_base_model(tmp_path, "t5", "fp32").context_length == 8192


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


async def test_memory_counts_sources_and_answers(byt5: BaseModel) -> None:
    row = slot_bytes(byt5)
    # Three rows: a source of three steps and an answer of one each.
    driven = Driven(byt5, kv_bytes=3 * 4 * row)
    requests = [driven.ask("x" * 600, 40 + place) for place in range(5)]
    driven.step(6)
    assert len(driven.batch.running) == 3
    driven.finish()
    assert driven.most_held == 3 * 4 * row
    assert driven.batch.kv_bytes_held == 0
    for place, request in enumerate(requests):
        alone = Driven(byt5)
        expected = alone.ask("x" * 600, 40 + place)
        alone.finish()
        assert driven.answer(request) == alone.answer(expected)


async def test_a_single_request_passes_any_limit(byt5: BaseModel) -> None:
    driven = Driven(byt5, kv_bytes=1)
    requests = [driven.ask("One", 5), driven.ask("Two", 5)]
    while driven.batch.busy:
        driven.step()
        assert len(driven.batch.running) <= 1
    assert all(driven.answer(request) is not None for request in requests)


async def test_who_leaves_frees_a_row_and_the_others_stay_as_they_were(byt5: BaseModel) -> None:
    driven = Driven(byt5, max_rows=3)
    first, second, third = (driven.ask(f"Number {place}" * place, 50) for place in (1, 5, 9))
    driven.step(10)
    first.cancelled = True
    driven.step()
    assert driven.batch.running == [third, second]
    late = driven.ask("Late", 20)
    driven.finish()
    for place, sequence in ((5, second), (9, third)):
        alone = Driven(byt5)
        expected = alone.ask(f"Number {place}" * place, 50)
        alone.finish()
        assert driven.answer(sequence) == alone.answer(expected)
    assert driven.answer(late)


async def test_stop_strings_and_seeds(engine: Engine, byt5: BaseModel) -> None:
    ids = prompt(byt5, "Tell me")
    request = GenerationRequest(byt5, ids, 60)
    text, last = await collect(engine, request)
    assert (last.prompt_tokens, last.completion_tokens) == (len("Tell me") + 1, 60)
    stop = text[len(text) // 2 :][:2]
    cut, last = await collect(engine, GenerationRequest(byt5, ids, 60, stop_strings=(stop,)))
    assert (cut, last.finish_reason) == (text[: text.index(stop)], "stop")

    def seeded(seed: int) -> GenerationRequest:
        return GenerationRequest(byt5, ids, 30, sampling=Sampling(1.5, seed=seed))

    alone, _ = await collect(engine, seeded(7))
    company = await collect_all(engine, [seeded(8), seeded(7), request])
    assert company[1] == alone != company[0]
    assert company[2] == text


async def test_a_source_that_fails_ends_its_own_request_only(
    engine: Engine, byt5: BaseModel
) -> None:
    good = GenerationRequest(byt5, prompt(byt5, "Fine"), 60)
    outside = GenerationRequest(byt5, (10**6, 1), 5)
    results = await asyncio.gather(
        collect(engine, good), collect(engine, outside), return_exceptions=True
    )
    assert getattr(results[1], "code", "") == "generation_failed"
    assert results[0] == await collect(engine, good)


def test_other_encoder_decoders_are_refused(tmp_path: Path) -> None:
    config = BartConfig(
        vocab_size=300, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16
    )
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InvalidData, match=r"some/model \(bart\) is neither"):
        load_base_model(tmp_path, "some/model", "fp32")


def test_a_model_whose_answers_start_nowhere_is_refused(tmp_path: Path) -> None:
    save_family(tmp_path, "t5")
    change_config(tmp_path, decoder_start_token_id=None)
    (tmp_path / "generation_config.json").unlink()
    with pytest.raises(InvalidData, match="which token its answers start with"):
        load_base_model(tmp_path, "some/model", "fp32")


@pytest.mark.parametrize("name", ["t5", "byt5"])
def test_a_row_with_the_bias_of_another_is_found_out_at_load(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_family(tmp_path, name)
    right = seq2seq.Seq2SeqRows._answer_mask

    def of_the_first(rows: seq2seq.Seq2SeqRows, positions: torch.Tensor) -> torch.Tensor:
        return right(rows, positions)[:1].expand(len(positions), -1, -1, -1)

    monkeypatch.setattr(seq2seq.Seq2SeqRows, "_answer_mask", of_the_first)
    with pytest.raises(InvalidData, match="gives other results here"):
        load_base_model(tmp_path, "some/model", "fp32")


async def test_layers_that_a_half_precision_model_keeps_in_fp32_take_adapters_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = (torch.device("cpu"), torch.float16)  # as on a GPU without bf16
    monkeypatch.setattr(base_model, "choose_precision", lambda _: half)
    save_family(tmp_path / "model", "t5")
    save_adapter(tmp_path / "adapter", tmp_path / "model")
    base = load_base_model(tmp_path / "model", "t5", "auto")
    assert {p.weight.dtype for p in base.projections.values()} == {torch.float16, torch.float32}
    adapter = load_adapter(tmp_path / "adapter", base.projections)
    driven = Driven(base)
    ids = prompt(base, "Fine")
    rows = [driven.submit(GenerationRequest(base, ids, 9, own)) for own in (None, adapter)]
    driven.finish()
    assert driven.answer(rows[0]) != driven.answer(rows[1])
