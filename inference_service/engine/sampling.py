"""Choosing next tokens from logits; knows nothing of rows, slots or text."""

from collections.abc import Sequence

import torch
from torch import Tensor

from inference_service.engine.requests import Sampling

# Enough candidates for nearly every nucleus, and far cheaper than sorting a whole vocabulary.
NUCLEUS_CANDIDATES = 512


class Sampler:
    """Draws the tokens of one request; with a seed, the same ones in whatever batch it runs."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._generator: torch.Generator | None = None
        if sampling.temperature > 0:
            self._generator = torch.Generator()
            if sampling.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(sampling.seed)

    @property
    def greedy(self) -> bool:
        return self._generator is None

    def draw(self, logits: Tensor) -> int:
        """One token from the logits of one row."""
        values, tokens = self._candidates(logits.float().cpu() / self.sampling.temperature)
        noise = torch.empty_like(values).exponential_(generator=self._generator)
        # The largest of p/e, with e exponential, is a draw from p.
        return int(tokens[torch.argmax(values - noise.log())])

    def _candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and ids of the tokens that top_k and top_p leave, the likeliest first."""
        size, top_p = scores.numel(), self.sampling.top_p
        top_k = min(self.sampling.top_k or size, size)
        if top_p >= 1 and top_k == size:
            return scores, torch.arange(size)
        count = min(top_k, NUCLEUS_CANDIDATES) if top_p < 1 else top_k
        values, tokens = scores.topk(count)
        if top_p >= 1:
            return values, tokens
        total = scores.logsumexp(0) if top_k == size else scores.topk(top_k)[0].logsumexp(0)
        if float((values.logsumexp(0) - total).exp()) < top_p and count < top_k:
            values, tokens = scores.topk(top_k)
        before = (values - total).exp().cumsum(0) - (values - total).exp()
        kept = before < top_p
        kept[0] = True
        return values[kept], tokens[kept]


def next_tokens(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """The next token of every row: greedy rows together, drawn ones each by its own sampler."""
    best: list[int] = logits.argmax(dim=-1).tolist()
    for row, sampler in enumerate(samplers):
        if not sampler.greedy:
            best[row] = sampler.draw(logits[row])
    return best
