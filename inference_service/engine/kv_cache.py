"""Keys and values of all running sequences in preallocated slots, one row a sequence.

Knows nothing of requests: rows, positions and lengths come from the batch that uses it.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "genplat_slots"
LENGTH_STEP = 256


class SlotCache(Cache):
    """A cache whose sequences join, leave and grow without moving the others.

    Before each forward pass `aim` says which rows the pass is for and where its tokens go.
    """

    def __init__(self, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(layers=[])
        heads = config.num_attention_heads
        self._kv_heads: int = getattr(config, "num_key_value_heads", None) or heads
        self._head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._layers: int = config.num_hidden_layers
        self._dtype, self._device = dtype, device
        self._stores: list[tuple[Tensor, Tensor]] = []
        self.rows, self.length = 0, 0
        self._targets = torch.empty(0, dtype=torch.long)
        self._window = (0, 0, 0)

    @property
    def bytes_per_token(self) -> int:
        return 2 * self._layers * self._kv_heads * self._head_dim * self._dtype.itemsize

    @property
    def bytes_held(self) -> int:
        return self.rows * self.length * self.bytes_per_token

    @staticmethod
    def fewest_tokens(rows: int, length: int) -> int:
        """Tokens that there will be room for at least, once ``rows`` of ``length`` are reserved."""
        return rows * _whole_steps(length)

    def reserve(self, rows: int, length: int, *, max_rows: int = 1, max_tokens: int = 0) -> None:
        """Make room for ``rows`` sequences of ``length`` tokens and keep those in the first rows.

        More than that is held only within ``max_rows`` and ``max_tokens``, which is that of all
        rows together. Where memory lacks, this raises what torch does and all is lost: `release`.
        """
        fewest, length = self.fewest_tokens(rows, length), _whole_steps(length)
        fits = rows <= self.rows and length <= self.length
        if fits and self.rows * self.length <= max(fewest, max_tokens):
            return
        kept_rows, kept_length = min(rows, self.rows), min(length, self.length)
        # Rows come one at a time and each growth copies what is there: make spare ones.
        rows = max(rows, min(rows + rows // 2, max_rows, max_tokens // length))
        shape = (rows, length, self._kv_heads, self._head_dim)
        stores = []
        for layer in range(self._layers):
            pair = tuple(torch.zeros(shape, dtype=self._dtype, device=self._device) for _ in "kv")
            if self._stores:
                for new, old in zip(pair, self._stores[layer], strict=True):
                    new[:kept_rows, :kept_length] = old[:kept_rows, :kept_length]
                self._stores[layer] = (pair[0][:0], pair[1][:0])
            stores.append((pair[0], pair[1]))
        self._stores, self.rows, self.length = stores, rows, length

    def release(self) -> None:
        """Give all memory back; every sequence is gone."""
        self._stores, self.rows, self.length = [], 0, 0

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the sequence of one row over another row."""
        for keys, values in self._stores:
            keys[target, :length] = keys[source, :length]
            values[target, :length] = values[source, :length]

    def aim(self, first_row: int, positions: Tensor) -> None:
        """The next pass holds rows from ``first_row`` on; ``positions`` is [rows, new tokens]."""
        count = positions.shape[0]
        rows = torch.arange(first_row, first_row + count, device=positions.device)
        self._targets = (rows[:, None] * self.length + positions).reshape(-1)
        self._window = (first_row, first_row + count, int(positions.max()) + 1)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Called by each attention layer: store the new tokens, return all tokens of the rows."""
        first, last, length = self._window
        result = []
        for store, states in zip(self._stores[layer_idx], (key_states, value_states), strict=True):
            flat = states.transpose(1, 2).reshape(self._targets.numel(), -1)
            store.view(self.rows * self.length, -1).index_copy_(0, self._targets, flat)
            result.append(store[first:last, :length].transpose(1, 2))
        return result[0], result[1]

    def write(self, row: int, layer_idx: int, keys: Tensor, values: Tensor) -> None:
        """Store a sequence's first tokens; both are [tokens, heads, size of a head]."""
        for store, states in zip(self._stores[layer_idx], (keys, values), strict=True):
            store[row, : states.shape[0]] = states

    def rows_of_layers(self, first: int, last: int, length: int) -> list[tuple[Tensor, Tensor]]:
        """What each layer holds of some rows: keys and values, [rows, heads, length, size]."""
        shown = (slice(first, last), slice(length))
        return [(k[shown].transpose(1, 2), v[shown].transpose(1, 2)) for k, v in self._stores]

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        return self._window[2]


def _whole_steps(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def slot_attention(
    module: torch.nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over slots. Query heads that share a key head are folded into its query length:
    the same sums as repeating keys and values for each of them, without the copies."""
    rows, heads, new, dim = query.shape
    groups = heads // key.shape[1]
    folded = query.reshape(rows, key.shape[1], groups * new, dim)
    if attention_mask is not None and groups > 1 and new > 1:
        attention_mask = attention_mask.repeat(1, 1, groups, 1)
    output = torch.nn.functional.scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, scale=scaling
    )
    return output.reshape(rows, heads, new, dim).transpose(1, 2), None


def attention_mask(positions: Tensor, dtype: torch.dtype) -> Tensor | None:
    """What each new token may see: everything up to its own position. None where that is all."""
    length = int(positions.max()) + 1
    seen = torch.arange(length, device=positions.device)
    hidden = seen > positions[..., None]
    if positions.shape[1] == 1 and not bool(hidden.any()):
        return None
    mask = torch.zeros(hidden.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(hidden, float("-inf"))[:, None]


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, slot_attention)
