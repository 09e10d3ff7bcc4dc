"""Slots: what is allocated, what is kept, and that neither passes what the caller allows."""

import torch

from inference_service.engine.kv_cache import LENGTH_STEP, SlotCache
from tests.trainer_service.tiny import tiny_config


def empty_cache() -> SlotCache:
    return SlotCache(tiny_config(), torch.float32, torch.device("cpu"))


def write(cache: SlotCache, row: int, tokens: int) -> torch.Tensor:
    """Store random keys and values of one row in every layer; returns those of the last layer."""
    cache.aim(row, torch.arange(tokens)[None])
    for layer in range(2):
        states = torch.rand(1, 2, tokens, 8)
        cache.update(states, -states, layer)
    return states


def read(cache: SlotCache, row: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What an attention layer sees of a row, after its last token was stored anew."""
    cache.aim(row, torch.full((1, 1), tokens))
    keys, values = cache.update(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8), 1)
    return keys[:, :, :tokens], values[:, :, :tokens]


def test_growth_makes_spare_rows_within_both_limits() -> None:
    cache = empty_cache()
    cache.reserve(4, 10, max_rows=32, max_tokens=100 * LENGTH_STEP)
    assert (cache.rows, cache.length) == (6, LENGTH_STEP)
    cache.reserve(30, 10, max_rows=32, max_tokens=100 * LENGTH_STEP)
    assert cache.rows == 32
    cache.reserve(33, 10, max_rows=64, max_tokens=40 * LENGTH_STEP)
    assert cache.rows == 40
    assert cache.bytes_held == 40 * LENGTH_STEP * cache.bytes_per_token


def test_growth_takes_the_length_that_is_needed_now() -> None:
    cache = empty_cache()
    cache.reserve(1, 2 * LENGTH_STEP, max_rows=32, max_tokens=32 * LENGTH_STEP)
    cache.reserve(20, 10, max_rows=32, max_tokens=32 * LENGTH_STEP)
    assert (cache.rows, cache.length) == (30, LENGTH_STEP)
    cache.reserve(4, 5 * LENGTH_STEP, max_rows=32, max_tokens=32 * LENGTH_STEP)
    assert (cache.rows, cache.length) == (6, 5 * LENGTH_STEP)


def test_what_is_held_stays_until_it_is_too_small_or_too_large() -> None:
    cache = empty_cache()
    cache.reserve(6, 3 * LENGTH_STEP, max_rows=8, max_tokens=24 * LENGTH_STEP)
    assert (cache.rows, cache.length) == (8, 3 * LENGTH_STEP)
    cache.reserve(2, 10, max_rows=8, max_tokens=24 * LENGTH_STEP)
    assert (cache.rows, cache.length) == (8, 3 * LENGTH_STEP)
    cache.reserve(2, 10, max_rows=8, max_tokens=23 * LENGTH_STEP)
    assert (cache.rows, cache.length) == (3, LENGTH_STEP)


def test_what_is_needed_is_made_even_where_it_passes_the_limit() -> None:
    cache = empty_cache()
    cache.reserve(1, 3 * LENGTH_STEP, max_rows=8, max_tokens=-1)
    assert (cache.rows, cache.length) == (1, 3 * LENGTH_STEP)
    cache.reserve(1, 10, max_rows=8, max_tokens=2 * LENGTH_STEP)
    assert (cache.rows, cache.length) == (1, LENGTH_STEP)


def test_sequences_stay_when_rows_or_length_grow_or_shrink() -> None:
    cache = empty_cache()
    cache.reserve(2, 2 * LENGTH_STEP, max_rows=8, max_tokens=100 * LENGTH_STEP)
    first, second = write(cache, 0, 7), write(cache, 1, LENGTH_STEP - 1)
    for rows, length in ((5, LENGTH_STEP), (2, 3 * LENGTH_STEP), (9, LENGTH_STEP)):
        cache.reserve(rows, length, max_rows=8, max_tokens=100 * LENGTH_STEP)
        for row, states in enumerate((first, second)):
            keys, values = read(cache, row, states.shape[2])
            assert torch.equal(keys, states)
            assert torch.equal(values, -states)


def test_fewest_tokens_are_what_reserve_allocates_at_least() -> None:
    cache = empty_cache()
    for rows, length in ((1, 1), (3, LENGTH_STEP), (5, LENGTH_STEP + 1)):
        cache.release()
        cache.reserve(rows, length)
        assert cache.bytes_held == cache.fewest_tokens(rows, length) * cache.bytes_per_token
