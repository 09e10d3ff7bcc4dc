"""Rows of a pass end to end, without padding, and what they begin with alike read once.

In a causal model what stands at a place depends on nothing after it: rows with the same first
tokens (an instruction, a template) have the same activations there. All layers see one packed row,
first the beginning that the rows share, then the rest of each. Only attention, where tokens meet,
sees the rows padded and whole. The shared beginning: Liu et al. 2025, "Prefix Grouper", arXiv
2506.05433.
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

NAME = "genplat_packed"
# Share of a pass's tokens that is worth it: laying rows out for attention costs half of that.
WORTH = 0.05
# What differs by more than rounding is something else.
TOLERANCE = 1e-4


class Packing(NamedTuple):
    """How long the rows of a pass are, and how many first tokens are the same in all."""

    lengths: tuple[int, ...]
    shared: int

    @property
    def width(self) -> int:
        return max(self.lengths)

    @property
    def tokens(self) -> int:
        """As many as are read."""
        return sum(self.lengths) - (len(self.lengths) - 1) * self.shared

    @property
    def pays(self) -> bool:
        padded = len(self.lengths) * self.width
        return padded - self.tokens >= WORTH * padded


class Packed(NamedTuple):
    """Which token is where. ``places`` [rows * width]: of each place of the padded rows, its token
    in the packed one (of padding, any of the row). ``sources`` [tokens]: of each packed token, its
    first place. ``others``: the places that are no token's first. ``positions`` [tokens]."""

    packing: Packing
    places: Tensor
    sources: Tensor
    others: Tensor
    positions: Tensor


def common_length(rows: Sequence[tuple[int, ...]]) -> int:
    """How many first tokens all rows have in common."""
    # (Of sorted rows the first and the last differ the earliest.)
    first, last = min(rows), max(rows)
    differing = (at for at, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1)
    return next(differing, min(len(first), len(last)))


def packing_of(rows: Sequence[tuple[int, ...]]) -> Packing:
    return Packing(tuple(map(len, rows)), common_length(rows))


def pack(packing: Packing, device: torch.device) -> Packed:
    rows, shared, width = len(packing.lengths), packing.shared, packing.width
    lengths = torch.tensor(packing.lengths).unsqueeze(1)
    position = torch.arange(width).expand(rows, width)
    # How much stands between the shared beginning and the rest of each row.
    begins = torch.cumsum(lengths - shared, dim=0) - (lengths - shared)
    places = torch.where(position < shared, position, position.minimum(lengths - 1) + begins)
    is_first = (position < lengths) & ((position >= shared) | (torch.arange(rows) == 0)[:, None])
    sources, others = is_first.flatten().nonzero()[:, 0], (~is_first).flatten().nonzero()[:, 0]
    found = (places.flatten(), sources, others, position.flatten()[sources])
    return Packed(packing, *(tensor.to(device) for tensor in found))


class _Unpack(torch.autograd.Function):
    """[1, heads, tokens, size] to [rows, heads, width, size]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed) -> Tensor:
        ctx.packed = packed
        rows = x.transpose(1, 2)[0].index_select(0, packed.places)
        return rows.view(-1, packed.packing.width, *rows.shape[1:]).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        packed: Packed = ctx.packed
        rows, shared = gradient.transpose(1, 2), packed.packing.shared
        tokens = rows.flatten(0, 1).index_select(0, packed.sources)
        # (Causal attention sends no gradient to padding.)
        torch.sum(rows[:, :shared], dim=0, out=tokens[:shared])
        return tokens.unsqueeze(0).transpose(1, 2), None


class _Pack(torch.autograd.Function):
    """[rows, width, heads, size] to [1, tokens, heads, size]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, packed: Packed) -> Tensor:
        ctx.packed = packed
        return rows.flatten(0, 1).index_select(0, packed.sources).unsqueeze(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        packed: Packed = ctx.packed
        rows = gradient[0].index_select(0, packed.places).index_fill_(0, packed.others, 0)
        return rows.view(-1, packed.packing.width, *rows.shape[1:]), None


def _unpacked(x: Tensor, packed: Packed) -> Tensor:
    rows: Tensor = _Unpack.apply(x, packed)  # type: ignore[no-untyped-call]
    return rows


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Packed | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of rows as they are, or of packed ones."""
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    query, key, value = (_unpacked(part, packed) for part in (query, key, value))
    output, _ = sdpa_attention_forward(module, query, key, value, None, **others)
    return _Pack.apply(output, packed), None  # type: ignore[no-untyped-call]


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


class Reader:
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

    def __call__(self, input_ids: Tensor, wanted: Tensor, packing: Packing | None) -> Tensor:
        """What the decoder makes of the ``wanted`` places [rows, width] of ``input_ids``
        [rows, width], padded on the right: [places, size]. ``packing`` is theirs."""
        packs = self.packs and not torch.is_autocast_enabled(input_ids.device.type)
        if packs and packing and packing.pays and packing.width <= self.window:
            return self._read_packed(input_ids, wanted, packing)
        hidden: Tensor = self.decoder(input_ids=input_ids, use_cache=False).last_hidden_state
        return hidden[wanted]

    def _read_packed(self, input_ids: Tensor, wanted: Tensor, packing: Packing) -> Tensor:
        packed = pack(packing, input_ids.device)
        hidden: Tensor = self.decoder(
            input_ids=input_ids.flatten()[packed.sources].unsqueeze(0),
            position_ids=packed.positions.unsqueeze(0),
            # Four dimensions: the model takes it for made and makes none. Which tokens meet, the
            # packing says.
            attention_mask=input_ids.new_ones(1, 1, 1, 1),
            use_cache=False,
            packed=packed,
        ).last_hidden_state
        return hidden[0].index_select(0, packed.places[wanted.flatten()])

    @torch.no_grad()
    def _agrees(self, model: Any) -> bool:
        probe = torch.arange(24, device=model.device).view(2, 12)
        probe[:, :8] = probe[0, :8]
        packing = Packing((9, 12), 8)
        wanted = torch.ones_like(probe, dtype=torch.bool)
        wanted[0, 9:] = False
        training = model.training
        model.eval()
        plain = self.decoder(input_ids=probe, use_cache=False).last_hidden_state[wanted]
        model.set_attn_implementation(NAME)
        try:
            same = _alike(plain, self._read_packed(probe, wanted, packing))
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            same = False
        if not same:
            model.set_attn_implementation("sdpa")
        model.train(training)
        return same


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= TOLERANCE * one.norm())


def _drops_out(model: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.Dropout) and module.p for module in model.modules()) or (
        bool(getattr(model.config, "attention_dropout", 0))
    )
