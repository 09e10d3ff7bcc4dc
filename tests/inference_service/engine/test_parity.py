"""Greedy fp32 answers are transformers' own, token for token, in whatever company they are made."""

from pathlib import Path

import pytest

from inference_service.engine.base_model import BaseModel
from inference_service.engine.engine import Engine
from inference_service.engine.lora import Adapter
from inference_service.engine.requests import GenerationRequest
from shared.storage import Storage
from tests.inference_service.engine.generating import collect, collect_all, generate, prompt

pytestmark = pytest.mark.anyio

TEXTS = ("Hi", "A longer prompt, with more words in it.", "x" * 200, "é", "12345 67890", "Draw!")


def requests_of(
    base: BaseModel, adapters: dict[str, Adapter]
) -> list[tuple[str, GenerationRequest]]:
    """Every text with the base model and with both adapters, of different lengths."""
    return [
        (
            name,
            GenerationRequest(
                base,
                prompt(base, text),
                max_new_tokens=12 + 5 * place,
                adapter=adapters.get(name),
                stop_token_ids=frozenset(base.stop_token_ids),
            ),
        )
        for place, text in enumerate(TEXTS)
        for name in ("", "run_a", "run_b")
    ]


async def test_alone_and_mixed_batches_answer_as_generate_does(
    engine: Engine,
    base: BaseModel,
    adapters: dict[str, Adapter],
    storage: Storage,
    model_folder: Path,
) -> None:
    cases = requests_of(base, adapters)
    expected = [
        generate(model_folder, base, request, storage.run_result(name) if name else None)
        for name, request in cases
    ]
    # Three models that all said the same would prove nothing about adapters.
    assert len(set(expected[3:6])) == 3
    mixed = await collect_all(engine, [request for _, request in cases])
    assert mixed == expected
    alone = [(await collect(engine, request))[0] for _, request in cases]
    assert alone == expected


async def test_sequences_join_and_leave_while_others_run(
    engine: Engine, base: BaseModel, adapters: dict[str, Adapter], model_folder: Path
) -> None:
    long = GenerationRequest(base, prompt(base, "A long answer"), max_new_tokens=150)
    expected = generate(model_folder, base, long, None)
    text, others = "", []
    async for chunk in engine.stream(long):
        text += chunk.text
        if chunk.completion_tokens in (5, 20, 40):
            # Each ends long before the first one does, and its row is taken by another.
            request = GenerationRequest(
                base, prompt(base, "Short " * chunk.completion_tokens), 3, adapters["run_b"]
            )
            others.append((await collect(engine, request))[1])
    assert [last.completion_tokens for last in others] == [3, 3, 3]
    assert text == expected


async def test_a_prompt_longer_than_one_prefill_is_read_in_pieces(
    engine: Engine, base: BaseModel, model_folder: Path
) -> None:
    request = GenerationRequest(base, prompt(base, "word " * 80), max_new_tokens=20)
    assert len(request.prompt_ids) > 3 * 128
    short = GenerationRequest(base, prompt(base, "Hello"), max_new_tokens=40)
    texts = await collect_all(engine, [short, request])
    assert texts == [generate(model_folder, base, r, None) for r in (short, request)]
