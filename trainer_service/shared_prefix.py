"""Rows that begin alike, such as with the same instruction, read their beginning once a pass.

In a causal model what stands at a place depends on nothing after it: rows with the same first
tokens have the same activations there. All layers see one packed row, first the beginning that
``rows`` share, then the rest of each. Only attention, where tokens meet, sees the rows whole.
(Liu et al. 2025, "Prefix Grouper", arXiv 2506.05433.)
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "genplat_shared_prefix"
# Of a pass's tokens: to lay the rows out for attention costs about half of that.
WORTH = 0.05
# What differs by more than rounding is something else.
TOLERANCE = 1e-4


class Packing(NamedTuple):
    """``rows`` rows of ``width`` tokens, of which the first ``shared`` are the same in all."""

    rows: int
    shared: int
    width: int

    @property
    def rest(self) -> int:
        return self.width - self.shared

    @property
    def tokens(self) -> int:
        """As many as are read."""
        return self.shared + self.rows * self.rest

    @property
    def pays(self) -> bool:
        whole = self.rows * self.width
        return whole - self.tokens >= WORTH * whole


class Packed(NamedTuple):
    """``tokens`` and ``positions`` [1, tokens read]; ``places`` [rows, width]: where in them the
    tokens of each row are."""

    tokens: Tensor
    positions: Tensor
    places: Tensor


def common_length(rows: Sequence[tuple[int, ...]]) -> int:
    """How many first tokens all rows have in common."""
    # (Of sorted rows the first and the last differ the earliest.)
    first, last = min(rows), max(rows)
    differing = (at for at, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1)
    return next(differing, min(len(first), len(last)))


def packing_of(input_ids: Tensor) -> Packing:
    """How the padded rows of ``input_ids`` [rows, width] may be packed."""
    rows, width = input_ids.shape
    alike = (input_ids == input_ids[:1]).all(dim=0).cummin(dim=0).values
    # What equal rows say twice is read twice: each row keeps at least one token of its own.
    return Packing(rows, min(int(alike.sum()), width - 1), width)


def pack(input_ids: Tensor, packing: Packing) -> Packed:
    rows, shared, width = packing
    device = input_ids.device
    tokens = torch.cat([input_ids[0, :shared], input_ids[:, shared:].reshape(-1)])
    positions = torch.arange(width, device=device)
    begins = torch.arange(rows, device=device).unsqueeze(1) * packing.rest
    places = positions + begins.masked_fill(positions < shared, 0)
    own = positions[shared:].repeat(rows)
    return Packed(tokens.unsqueeze(0), torch.cat([positions[:shared], own]).unsqueeze(0), places)


class _Unpack(torch.autograd.Function):
    """[1, heads, tokens read, size] to [rows, heads, width, size]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        rows, shared, width = packing
        x = x.transpose(1, 2)[0]
        whole = x.new_empty(rows, width, *x.shape[1:])
        whole[:, :shared] = x[:shared]
        whole[:, shared:] = x[shared:].view(rows, packing.rest, *x.shape[1:])
        return whole.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, shared, _ = packing = ctx.packing
        gradient = gradient.transpose(1, 2)
        packed = gradient.new_empty(packing.tokens, *gradient.shape[2:])
        torch.sum(gradient[:, :shared], dim=0, out=packed[:shared])
        packed[shared:].view(rows, packing.rest, *gradient.shape[2:]).copy_(gradient[:, shared:])
        return packed.unsqueeze(0).transpose(1, 2), None


class _Pack(torch.autograd.Function):
    """[rows, width, heads, size] to [1, tokens read, heads, size]."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return torch.cat([whole[0, : packing.shared], whole[:, packing.shared :].flatten(0, 1)])[
            None
        ]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, shared, width = packing = ctx.packing
        gradient = gradient[0]
        whole = gradient.new_empty(rows, width, *gradient.shape[1:])
        whole[0, :shared] = gradient[:shared]
        whole[1:, :shared] = 0
        whole[:, shared:] = gradient[shared:].view(rows, packing.rest, *gradient.shape[1:])
        return whole, None


def _whole(x: Tensor, packing: Packing) -> Tensor:
    rows: Tensor = _Unpack.apply(x, packing)  # type: ignore[no-untyped-call]
    return rows


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of plain rows, or of those that a pass has packed."""
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    query, key, value = (_whole(part, packing) for part in (query, key, value))
    output, _ = sdpa_attention_forward(module, query, key, value, None, **others)
    return _Pack.apply(output, packing), None  # type: ignore[no-untyped-call]


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


class PrefixReader:
    """Reads rows through the decoder of ``model``, packed where that pays.

    ``packs``: whether it ever does. Each architecture has its own code, so it is tried once; where
    the numbers differ, rows are read as they are. So they are in half precision, which rounds
    every sum, and with dropout, which should not be the same in all rows.
    """

    def __init__(self, model: Any) -> None:
        self.decoder = model.get_decoder()
        self.window = getattr(model.config, "sliding_window", None) or math.inf
        self.packs = (
            self.decoder is not model
            and model.dtype == torch.float32
            and model.config._attn_implementation == "sdpa"
            and not _drops_out(model)
            and self._agrees(model)
        )

    def __call__(self, input_ids: Tensor, wanted: Tensor) -> Tensor:
        """What the decoder makes of the ``wanted`` places [rows, width] of ``input_ids``
        [rows, width]: [places, size]."""
        if self.packs and input_ids.shape[1] <= self.window:
            packing = packing_of(input_ids)
            if packing.pays:
                return self._read_packed(input_ids, wanted, packing)
        hidden: Tensor = self.decoder(input_ids=input_ids, use_cache=False).last_hidden_state
        return hidden[wanted]

    def _read_packed(self, input_ids: Tensor, wanted: Tensor, packing: Packing) -> Tensor:
        packed = pack(input_ids, packing)
        hidden: Tensor = self.decoder(
            input_ids=packed.tokens,
            position_ids=packed.positions,
            # Four dimensions: the model takes it for made and makes none. Which tokens meet, the
            # packing says.
            attention_mask=packed.tokens.new_ones(1, 1, 1, 1),
            use_cache=False,
            packing=packing,
        ).last_hidden_state
        return hidden[0].index_select(0, packed.places[wanted])

    @torch.no_grad()
    def _agrees(self, model: Any) -> bool:
        probe = torch.arange(24, device=model.device).view(2, 12)
        probe[:, :8] = probe[0, :8]
        everywhere = torch.ones_like(probe, dtype=torch.bool)
        training = model.training
        model.eval()
        plain = self.decoder(input_ids=probe, use_cache=False).last_hidden_state[everywhere]
        model.set_attn_implementation(NAME)
        try:
            same = self._is_packed_alike(probe, everywhere, plain)
        finally:
            model.train(training)
        if not same:
            model.set_attn_implementation("sdpa")
        return same

    def _is_packed_alike(self, probe: Tensor, wanted: Tensor, plain: Tensor) -> bool:
        try:
            packed = self._read_packed(probe, wanted, packing_of(probe))
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False
        return bool((packed - plain).norm() <= TOLERANCE * plain.norm())


def _drops_out(model: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules()) or (
        bool(getattr(model.config, "attention_dropout", 0))
    )
