"""What a sampler may choose, and that it chooses by probability."""

import pytest
import torch

from inference_service.engine.requests import Sampling
from inference_service.engine.sampling import NUCLEUS_CANDIDATES, Sampler, next_tokens

LOGITS = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.125]))


def draws(sampling: Sampling, logits: torch.Tensor = LOGITS, count: int = 2000) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.draw(logits) for _ in range(count)]


def test_plain_sampling_follows_the_probabilities() -> None:
    tokens = draws(Sampling(temperature=1, seed=1))
    shares = [tokens.count(token) / len(tokens) for token in range(4)]
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.04)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    assert set(draws(Sampling(temperature=1, top_p=0.7, seed=1))) == {0, 1}
    assert set(draws(Sampling(temperature=1, top_p=0.01, seed=1))) == {0}


def test_top_k_keeps_the_likeliest_and_renormalises_before_top_p() -> None:
    falling = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))
    assert set(draws(Sampling(temperature=1, top_k=3, seed=1), falling)) == {1, 2, 3}
    assert len(set(draws(Sampling(temperature=1, top_k=3, seed=1)))) == 3  # of two equal ones, one
    assert set(draws(Sampling(temperature=1, top_k=2, seed=1))) == {0, 1}
    assert set(draws(Sampling(temperature=1, top_k=2, top_p=0.66, seed=1))) == {0}


def test_a_nucleus_wider_than_the_candidates_is_still_whole() -> None:
    flat = torch.zeros(4 * NUCLEUS_CANDIDATES)
    tokens = set(draws(Sampling(temperature=1, top_p=0.99, seed=1), flat, count=3000))
    assert len(tokens) > 1.4 * NUCLEUS_CANDIDATES


def test_low_temperature_approaches_greedy() -> None:
    assert set(draws(Sampling(temperature=0.01, seed=1))) == {0}


def test_greedy_and_drawn_rows_share_a_batch() -> None:
    samplers = [Sampler(Sampling()), Sampler(Sampling(temperature=1, seed=3))]
    first = next_tokens(torch.stack([LOGITS, LOGITS]), samplers)
    again = Sampler(Sampling(temperature=1, seed=3)).draw(LOGITS)
    assert first == [0, again]
