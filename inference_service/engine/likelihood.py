"""How likely a model holds a given answer: the sum of its tokens' log-probabilities.

Computed in pieces, so that running streams wait for no more than one of them; each family in the
way in which it also writes. Used by the generation thread alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from inference_service.engine.kv_cache import SlotCache, attention_mask
from inference_service.engine.lora import Adapter
from inference_service.engine.seq2seq import Seq2SeqRows

if TYPE_CHECKING:
    from inference_service.engine.base_model import BaseModel

# Tokens of one piece.
PIECE = 128


@dataclass(eq=False)
class LikelihoodRequest:
    """The tokens of an answer, the one that ends it included, behind those of a prompt."""

    base: "BaseModel"
    adapter: Adapter | None
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


class Reckoning:
    """A request under way. ``total`` is right once `advance` has said that it is done."""

    def __init__(self, request: LikelihoodRequest) -> None:
        self.total = 0.0
        self._request = request
        family = _causal if request.base.family == "causal" else _seq2seq
        self._pieces = family(request)

    def advance(self) -> bool:
        """Compute one piece; True behind the last one."""
        # (Batches between two pieces choose adapters of their own.)
        base = self._request.base
        base.lora.select([self._request.adapter], base.dtype)
        piece = next(self._pieces, None)
        if piece is None:
            return True
        logits, wanted = piece
        chosen = torch.log_softmax(logits.float(), dim=-1).gather(1, wanted[:, None])
        self.total += float(chosen.double().sum())
        return False


def _causal(request: LikelihoodRequest) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits [tokens, vocabulary] and the tokens that follow them."""
    base = request.base
    ids = torch.tensor([*request.prompt_ids, *request.answer_ids], device=base.device)
    read, first = len(ids) - 1, len(request.prompt_ids) - 1
    cache = SlotCache(base.model.config, base.dtype, base.device)
    cache.reserve(1, read)
    for begin in range(0, read, PIECE):
        end = min(begin + PIECE, read)
        # Of a prompt's tokens only the last one says something of the answer.
        kept = end - max(begin, first)
        logits = _forward(base, ids[begin:end], begin, cache, keep=max(kept, 1))
        if kept > 0:
            yield logits[-kept:], ids[end - kept + 1 : end + 1]
        else:
            yield logits[:0], ids[:0]


def _forward(base: "BaseModel", ids: Tensor, begin: int, cache: SlotCache, *, keep: int) -> Tensor:
    positions = torch.arange(begin, begin + len(ids), device=base.device)[None]
    cache.aim(0, positions)
    model = cast(Any, base.model)
    output = model(
        input_ids=ids[None],
        attention_mask=attention_mask(positions, base.dtype),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=keep,
    )
    return cast(Tensor, output.logits)[0]


def _seq2seq(request: LikelihoodRequest) -> Iterator[tuple[Tensor, Tensor]]:
    base = request.base
    rows = Seq2SeqRows(base)
    answer = torch.tensor(request.answer_ids, device=base.device)
    for place, logits in enumerate(rows.follow(request.prompt_ids, request.answer_ids)):
        yield logits, answer[place : place + 1]
