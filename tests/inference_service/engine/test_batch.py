"""A batch step by step, without a thread: what it holds, and what a failure leaves behind."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch

from inference_service.engine.base_model import BaseModel
from tests.inference_service.engine.driven import Driven
from tests.inference_service.engine.generating import row_bytes

pytestmark = pytest.mark.anyio


def alone(base: BaseModel, text: str, new_tokens: int) -> str:
    """The answer to a request that has a batch of its own."""
    driven = Driven(base)
    sequence = driven.ask(text, new_tokens)
    driven.finish()
    return driven.answer(sequence)


@contextlib.contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, when: Callable[[], bool]
) -> Iterator[None]:
    """``owner.name`` does its work and then fails, where ``when`` says so."""
    original = getattr(owner, name)

    def maybe(*arguments: object, **named: object) -> object:
        result = original(*arguments, **named)
        if when():
            raise RuntimeError("out of memory")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, maybe)
        yield


async def test_a_long_request_that_left_takes_no_memory_from_the_next_ones(
    base: BaseModel,
) -> None:
    budget = 8 * row_bytes(base)
    driven = Driven(base, kv_bytes=budget)
    long, first = driven.ask("Long", 500), driven.ask("First", 100)
    driven.step(3)
    assert len(driven.batch.running) == 2
    long.cancelled = True
    others = [driven.ask(f"Number {i}", 100) for i in range(7)]
    driven.step(5)
    assert len(driven.batch.running) == 8
    driven.finish()
    assert driven.most_held == budget
    assert driven.batch.kv_bytes_held == 0
    assert driven.answer(first) == alone(base, "First", 100)
    assert driven.answer(others[6]) == alone(base, "Number 6", 100)


async def test_a_long_request_joins_when_its_length_times_all_rows_fits(base: BaseModel) -> None:
    budget = 8 * row_bytes(base)
    driven = Driven(base, kv_bytes=budget)
    short = [driven.ask(f"Number {i}", 30 + 10 * i) for i in range(6)]
    driven.step(2)
    long = driven.ask("Long", 500)
    driven.step(2)
    assert list(driven.batch.waiting) == [long]
    driven.finish()
    assert driven.most_held == budget
    for place, sequence in enumerate(short):
        assert driven.answer(sequence) == alone(base, f"Number {place}", 30 + 10 * place)
    assert driven.answer(long) == alone(base, "Long", 500)


async def test_no_more_rows_are_held_than_may_run(base: BaseModel) -> None:
    driven = Driven(base, max_rows=5)
    for i in range(9):
        driven.ask(f"Number {i}", 20)
    driven.finish()
    assert driven.most_held == 5 * row_bytes(base)


async def test_a_failed_step_ends_all_that_have_rows_and_nothing_else(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(base)
    running = [driven.ask(text, 60) for text in ("One", "Two")]
    driven.step(2)
    half_read = driven.ask("word " * 60, 20)
    driven.step()
    assert driven.batch.joining is half_read
    assert 0 < half_read.length < len(half_read.request.prompt_ids)
    waiting = driven.ask("Three", 20)
    with failing(monkeypatch, driven.batch, "_take", lambda: len(driven.batch.running) == 2):
        driven.step()
    again = driven.ask("word " * 60, 20)
    driven.finish()
    assert [driven.error(s) for s in (*running, half_read)] == ["generation_failed"] * 3
    assert driven.answer(waiting) == alone(base, "Three", 20)
    assert driven.answer(again) == alone(base, "word " * 60, 20)


async def test_a_failed_growth_ends_all_that_have_rows_and_nothing_else(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(base)
    running = [driven.ask(text, 60) for text in ("One", "Two")]
    driven.step(2)
    newcomer, waiting = driven.ask("New", 400), driven.ask("Three", 20)
    zeros, calls = torch.zeros, 0

    def scarce(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:  # the first layer has its new slots, the second gets none
            raise RuntimeError("out of memory")
        return zeros(*arguments, **named)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(torch, "zeros", scarce)
        driven.step()
    assert driven.batch.kv_bytes_held == 0
    again = driven.ask("New", 400)
    driven.finish()
    assert [driven.error(s) for s in (*running, newcomer)] == ["generation_failed"] * 3
    assert driven.answer(waiting) == alone(base, "Three", 20)
    assert driven.answer(again) == alone(base, "New", 400)


async def test_a_request_whose_first_token_fails_runs_no_further(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(base)
    good = driven.ask("One", 30)
    driven.step(2)
    bad = driven.ask("Two", 30)
    with failing(monkeypatch, bad, "take", lambda: True):
        driven.step()
    assert driven.batch.running == [good]
    driven.finish()
    assert driven.error(bad) == "generation_failed"
    assert driven.answer(good) == alone(base, "One", 30)
