"""Slots of encoder-decoder models: keys and values of answers, and of the sources they are about.

Knows nothing of requests: rows, positions and lengths come from who uses it.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.cache_utils import EncoderDecoderCache

from inference_service.engine.kv_cache import SlotCache


@dataclass(frozen=True)
class _Source:
    """What a layer's cross-attention reads: [rows, heads, tokens, size of a head]."""

    keys: Tensor
    values: Tensor


class Seq2SeqCache(EncoderDecoderCache):
    """Two stores with the same rows. Answers grow by a token a step; sources are written once."""

    def __init__(self, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> None:
        """``config`` is the decoder's."""
        self.answers = SlotCache(config, dtype, device)
        self.sources = SlotCache(config, dtype, device)
        super().__init__(self.answers, self.sources)
        # Each layer's cross-attention shall read its source here and compute it no more.
        self.is_updated = dict.fromkeys(range(config.num_hidden_layers), True)

    @property
    def bytes_per_token(self) -> int:
        return self.answers.bytes_per_token

    @property
    def bytes_held(self) -> int:
        return self.answers.bytes_held + self.sources.bytes_held

    def fewest_tokens(self, rows: int, answer: int, source: int) -> int:
        """Tokens that there will be room for at least, once so much is reserved."""
        answers, sources = self.answers, self.sources
        return answers.fewest_tokens(rows, answer) + sources.fewest_tokens(rows, source)

    def reserve(
        self, rows: int, answer: int, source: int, *, max_rows: int = 1, max_tokens: int = 0
    ) -> None:
        """As `SlotCache.reserve`, for answers and sources of so many tokens. Each store gets its
        share of ``max_tokens`` by its length, so that both have spare room for as many rows."""
        row_tokens = self.fewest_tokens(1, answer, source)
        for store, length in ((self.answers, answer), (self.sources, source)):
            share = max_tokens * store.fewest_tokens(1, length) // row_tokens
            store.reserve(rows, length, max_rows=max_rows, max_tokens=share)

    def release(self) -> None:
        self.answers.release()
        self.sources.release()

    def move(self, origin: int, target: int, answer: int, source: int) -> None:
        """Copy the sequence of one row over another row."""
        self.answers.move(origin, target, answer)
        self.sources.move(origin, target, source)

    def aim(self, positions: Tensor, source: int) -> None:
        """The next pass gives the first rows one token each, at ``positions`` ([rows, 1]); it
        reads so many tokens of their sources."""
        self.answers.aim(0, positions)
        stores = self.sources.rows_of_layers(0, positions.shape[0], source)
        # (All that attention asks of them is what `_Source` has.)
        self.sources.layers = cast(Any, [_Source(keys, values) for keys, values in stores])
