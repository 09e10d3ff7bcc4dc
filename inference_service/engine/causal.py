"""Rows of decoder-only models: prompt and answer are one text, read and written at one place."""

from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from inference_service.engine.kv_cache import SlotCache, attention_mask
from inference_service.engine.rows import Reading
from inference_service.engine.sequence import Sequence

if TYPE_CHECKING:
    from inference_service.engine.base_model import BaseModel

PROBE_TOKENS = 24


class CausalRows:
    """The running sequences of one decoder-only model."""

    def __init__(self, base: "BaseModel") -> None:
        self._base = base
        self._cache = SlotCache(base.model.config, base.dtype, base.device)

    @property
    def bytes_held(self) -> int:
        return self._cache.bytes_held

    def has_room(self, sequences: Many[Sequence], max_bytes: int) -> bool:
        needed = self._cache.fewest_tokens(len(sequences), _length(sequences))
        return needed * self._cache.bytes_per_token <= max_bytes

    def reserve(self, sequences: Many[Sequence], *, max_rows: int, max_bytes: int) -> None:
        max_tokens = max_bytes // self._cache.bytes_per_token
        length = _length(sequences)
        self._cache.reserve(len(sequences), length, max_rows=max_rows, max_tokens=max_tokens)

    def release(self) -> None:
        self._cache.release()

    def move(self, source: int, target: int, sequence: Sequence) -> None:
        self._cache.move(source, target, sequence.length)

    def read(self, sequence: Sequence, row: int, budget: int) -> Reading:
        prompt = sequence.request.prompt_ids
        start, end = sequence.length, min(sequence.length + budget, len(prompt))
        device = self._base.device
        self._base.lora.select([sequence.request.adapter], self._base.dtype)
        logits = forward(
            self._base,
            torch.tensor([prompt[start:end]], device=device),
            torch.arange(start, end, device=device)[None],
            self._cache,
            first_row=row,
        )
        sequence.length = end
        return Reading(end - start, True, logits) if end == len(prompt) else Reading(budget, False)

    def decode(self, sequences: Many[Sequence]) -> Tensor:
        device = self._base.device
        self._base.lora.select([s.request.adapter for s in sequences], self._base.dtype)
        return forward(
            self._base,
            torch.tensor([[s.last_token] for s in sequences], device=device),
            torch.tensor([[s.length] for s in sequences], device=device),
            self._cache,
            first_row=0,
        )


def forward(
    base: "BaseModel", ids: Tensor, positions: Tensor, cache: SlotCache, first_row: int
) -> Tensor:
    """Logits of the last of the new tokens of each row; ``ids`` is [rows, new tokens]."""
    cache.aim(first_row, positions)
    output = base.model(
        input_ids=ids,
        attention_mask=attention_mask(positions, base.dtype),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return cast(Tensor, output.logits)[:, -1]


def own_logits(model: Any) -> Tensor:
    """What the untouched model says at the last two tokens of a probe: [2, vocabulary]."""
    return cast(Tensor, model(input_ids=_probe(model), use_cache=False).logits[0, -2:])


def engine_logits(base: "BaseModel") -> Tensor:
    """The same from slots: the first of the two in a prompt, the second in a step."""
    cache = SlotCache(base.model.config, base.dtype, base.device)
    cache.reserve(1, PROBE_TOKENS)
    probe = _probe(base.model)
    positions = torch.arange(PROBE_TOKENS, device=base.device)[None]
    first = forward(base, probe[:, :-1], positions[:, :-1], cache, 0)
    return torch.cat([first, forward(base, probe[:, -1:], positions[:, -1:], cache, 0)])


def _probe(model: Any) -> Tensor:
    ids = torch.arange(1, PROBE_TOKENS + 1, device=model.device)[None]
    return ids % int(model.config.vocab_size)


def _length(sequences: Many[Sequence]) -> int:
    """Tokens of the longest, once it is at its end."""
    return max(len(s.request.prompt_ids) + s.request.max_new_tokens for s in sequences)
