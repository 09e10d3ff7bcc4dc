"""The engine around the model: limits, stops, seeds, cancellation, failures, unloading."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from inference_service.engine.base_model import BaseModel, load_base_model
from inference_service.engine.batch import Batch
from inference_service.engine.engine import Engine
from inference_service.engine.lora import Adapter
from inference_service.engine.requests import GenerationRequest, Sampling
from shared.errors import GenPlatError, Unavailable
from tests.inference_service.engine.generating import collect, collect_all, prompt, row_bytes
from tests.trainer_service.tiny import TINY_MODEL

pytestmark = pytest.mark.anyio


async def wait_until_idle(engine: Engine) -> float:
    """Seconds until nothing runs."""
    started = time.perf_counter()
    while engine.load.running or engine.load.waiting:
        assert time.perf_counter() - started < 5
        await asyncio.sleep(0.005)
    return time.perf_counter() - started


async def test_length_and_usage(engine: Engine, base: BaseModel) -> None:
    ids = prompt(base, "Hello")
    _, last = await collect(engine, GenerationRequest(base, ids, 7))
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("length", 5, 7)


async def test_a_stop_token_ends_the_answer_and_is_not_shown(
    engine: Engine, base: BaseModel
) -> None:
    request = GenerationRequest(base, prompt(base, "Hello"), 30)
    text, _ = await collect(engine, request)
    third = prompt(base, text)[2]
    stopping = GenerationRequest(base, request.prompt_ids, 30, stop_token_ids=frozenset({third}))
    shorter, last = await collect(engine, stopping)
    assert text.startswith(shorter)
    assert last.finish_reason == "stop"
    assert last.completion_tokens <= 2


async def test_a_stop_string_over_several_tokens_is_never_shown(
    engine: Engine, base: BaseModel
) -> None:
    request = GenerationRequest(base, prompt(base, "Tell me"), 40)
    text, _ = await collect(engine, request)
    stop = text[10:14]
    cut = GenerationRequest(base, request.prompt_ids, 40, stop_strings=(stop, "never seen"))
    shorter, last = await collect(engine, cut)
    assert shorter == text[: text.index(stop)]
    assert last.finish_reason == "stop"


async def test_seeds_repeat_alone_and_in_company(engine: Engine, base: BaseModel) -> None:
    def seeded(seed: int | None) -> GenerationRequest:
        sampling = Sampling(temperature=1.5, top_p=0.9, top_k=40, seed=seed)
        return GenerationRequest(base, prompt(base, "Once"), 25, sampling=sampling)

    alone, _ = await collect(engine, seeded(7))
    company = await collect_all(engine, [seeded(7), seeded(8), seeded(None), seeded(None)])
    assert company[0] == alone
    assert len(set(company)) == 4


async def test_leaving_frees_the_slot_at_once(engine: Engine, base: BaseModel) -> None:
    stream = engine.stream(GenerationRequest(base, prompt(base, "Go on"), 400))
    async for chunk in stream:
        if chunk.completion_tokens > 2:
            break
    assert engine.load.running == 1
    await stream.aclose()
    assert await wait_until_idle(engine) < 1


async def test_leaving_before_being_admitted_frees_the_place(base: BaseModel) -> None:
    engine = Engine(max_rows=1, max_waiting=1)
    engine.start()
    try:
        running = engine.stream(GenerationRequest(base, prompt(base, "Go on"), 400))
        while (await anext(running)).completion_tokens == 0:
            pass
        waiting = engine.stream(GenerationRequest(base, prompt(base, "Me too"), 5))
        await anext(waiting)
        with pytest.raises(Unavailable) as caught:
            await anext(engine.stream(GenerationRequest(base, prompt(base, "And me"), 5)))
        assert (caught.value.code, caught.value.retry_after) == ("queue_full", 2.0)
        await waiting.aclose()
        text, _ = await asyncio.gather(
            collect(engine, GenerationRequest(base, prompt(base, "Now"), 3)), running.aclose()
        )
        assert text[1].completion_tokens == 3
    finally:
        engine.close()


async def test_more_requests_than_rows_wait_their_turn(engine: Engine, base: BaseModel) -> None:
    requests = [GenerationRequest(base, prompt(base, f"Number {i}"), 10) for i in range(30)]
    texts = await collect_all(engine, requests)
    assert texts[17] == (await collect(engine, requests[17]))[0]


@pytest.mark.parametrize(("kv_bytes", "most"), [(1, 1), (2**31, 3)])
async def test_a_small_cache_budget_admits_one_request_at_a_time(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, kv_bytes: int, most: int
) -> None:
    engine = Engine(max_rows=8, kv_bytes=kv_bytes)
    running: list[int] = []
    step = Batch.step

    def watched(batch: Batch) -> None:
        step(batch)
        running.append(len(batch.running) + (batch.joining is not None))

    monkeypatch.setattr(Batch, "step", watched)
    requests = [GenerationRequest(base, prompt(base, f"Number {i}"), 10) for i in range(3)]
    answers = asyncio.create_task(collect_all(engine, requests))
    try:
        # All of them wait before the first one may run.
        while engine.load.waiting < len(requests):
            await asyncio.sleep(0)
        engine.start()
        assert all(await answers)
        assert max(running) == most
    finally:
        engine.close()


async def test_the_cache_budget_is_that_of_all_base_models_together(
    base: BaseModel, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = [base, load_base_model(model_folder, TINY_MODEL, "fp32")]
    engine = Engine(max_rows=8, kv_bytes=5 * row_bytes(base))
    held: dict[BaseModel, int] = {}
    step = Batch.step

    def watched(batch: Batch) -> None:
        step(batch)
        held[batch.base] = batch.kv_bytes_held
        # The second model's only request may pass the limit: the first may never leave room.
        assert sum(held.values()) <= 6 * row_bytes(base)

    monkeypatch.setattr(Batch, "step", watched)
    engine.start()
    try:
        requests = [
            GenerationRequest(bases[i % 2], prompt(base, f"Number {i}"), 20 + i) for i in range(12)
        ]
        together = await collect_all(engine, requests)
        assert len(held) == 2
        assert together == [(await collect(engine, request))[0] for request in requests]
    finally:
        engine.close()


async def test_a_failure_ends_its_own_request_only(engine: Engine, base: BaseModel) -> None:
    outside = GenerationRequest(base, (10**6,), 5)  # no such token: the embedding fails
    good = GenerationRequest(base, prompt(base, "Fine"), 60)
    results: Sequence[object] = await asyncio.gather(
        collect(engine, good), collect(engine, outside), return_exceptions=True
    )
    assert isinstance(results[1], GenPlatError)
    assert results[1].code == "generation_failed"
    assert results[0] == await collect(engine, good)


async def test_a_closed_engine_ends_what_runs_and_takes_nothing_more(base: BaseModel) -> None:
    engine = Engine()
    engine.start()
    stream = engine.stream(GenerationRequest(base, prompt(base, "Go"), 400))
    await anext(stream)
    await asyncio.to_thread(engine.close)
    with pytest.raises(Unavailable):
        async for _ in stream:
            pass
    with pytest.raises(Unavailable):
        await anext(engine.stream(GenerationRequest(base, prompt(base, "Go"), 1)))


async def test_an_adapter_is_forgotten_while_another_one_answers(
    engine: Engine, base: BaseModel, adapters: dict[str, Adapter]
) -> None:
    request = GenerationRequest(base, prompt(base, "Go on"), 60, adapters["run_a"])
    expected, _ = await collect(engine, request)
    text = ""
    async for chunk in engine.stream(request):
        text += chunk.text
        if chunk.completion_tokens % 10 == 5:
            engine.forget(adapters["run_b"])
            engine.forget(adapters["run_a"])
    assert text == expected
