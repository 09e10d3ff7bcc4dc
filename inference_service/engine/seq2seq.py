"""Rows of encoder-decoder models of the T5 family: a source is encoded once, its answer decoded in
steps beside the others'.

T5 knows positions only as distances, which it turns into a bias on each attention score. The model
would compute that bias for one position and use it for all rows; here each row gets its own, as
part of its attention mask.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Many
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from inference_service.engine.rows import Reading
from inference_service.engine.seq2seq_cache import Seq2SeqCache
from inference_service.engine.sequence import Sequence
from shared.errors import InvalidData

if TYPE_CHECKING:
    from inference_service.engine.base_model import BaseModel

# Two sources of different lengths and the tokens of their answers; the second joins late.
PROBE_SOURCES = (24, 9)
PROBE_STEPS = 4
PROBE_LATE = 2


class Seq2SeqRows:
    """The running sequences of one encoder-decoder model."""

    def __init__(self, base: "BaseModel") -> None:
        self._base = base
        self._model = cast(Any, base.model)
        self._start = decoder_start(base.model, base.id)
        self._cache = Seq2SeqCache(self._model.decoder.config, base.dtype, base.device)
        attention = self._model.decoder.block[0].layer[0].SelfAttention
        # Beyond the largest distance all have its bias.
        self._farthest = int(attention.relative_attention_max_distance)
        biases = attention.compute_bias(1, self._farthest + 1, past_seen_tokens=self._farthest)
        self._bias: Tensor = biases[0, :, 0].flip(-1).t().contiguous()  # [distance, heads]

    @property
    def bytes_held(self) -> int:
        return self._cache.bytes_held

    def has_room(self, sequences: Many[Sequence], max_bytes: int) -> bool:
        needed = self._cache.fewest_tokens(len(sequences), *_lengths(sequences))
        return needed * self._cache.bytes_per_token <= max_bytes

    def reserve(self, sequences: Many[Sequence], *, max_rows: int, max_bytes: int) -> None:
        max_tokens = max_bytes // self._cache.bytes_per_token
        lengths = _lengths(sequences)
        self._cache.reserve(len(sequences), *lengths, max_rows=max_rows, max_tokens=max_tokens)

    def release(self) -> None:
        self._cache.release()

    def move(self, source: int, target: int, sequence: Sequence) -> None:
        self._cache.move(source, target, sequence.length, len(sequence.request.prompt_ids))

    def read(self, sequence: Sequence, row: int, budget: int) -> Reading:  # noqa: ARG002
        """The whole source, whatever the budget: each of its tokens sees all others."""
        source = sequence.request.prompt_ids
        self._base.lora.select([sequence.request.adapter], self._base.dtype)
        self._encode(source, row)
        sequence.last_token = self._start
        return Reading(len(source), done=True)

    def decode(self, sequences: Many[Sequence]) -> Tensor:
        self._base.lora.select([s.request.adapter for s in sequences], self._base.dtype)
        return self._step(
            [s.last_token for s in sequences],
            [s.length for s in sequences],
            [len(s.request.prompt_ids) for s in sequences],
        )

    def follow(self, source: Many[int], answer: Many[int]) -> Iterator[Tensor]:
        """What is said before each token of an answer that is given: logits [1, vocabulary]."""
        self._cache.reserve(1, len(answer), len(source))
        self._encode(source, 0)
        for place, token in enumerate([self._start, *answer[:-1]]):
            yield self._step([token], [place], [len(source)])

    def probe(self) -> Tensor:
        """The logits of `own_logits`, from rows that join at different times."""
        self._cache.reserve(len(PROBE_SOURCES), PROBE_STEPS, max(PROBE_SOURCES))
        for row, source in enumerate(PROBE_SOURCES):
            self._encode(_ids(self._model, source).tolist(), row)
        answer = _answer(self._model, self._start).tolist()
        said: dict[tuple[int, int], Tensor] = {}
        for step in range(PROBE_STEPS + PROBE_LATE):
            # The first row stays where it ends while the second one goes on.
            places = [min(step, PROBE_STEPS - 1)]
            if step >= PROBE_LATE:
                places.append(step - PROBE_LATE)
            logits = self._step(
                [answer[p] for p in places], places, [*PROBE_SOURCES][: len(places)]
            )
            said.update({(row, place): logits[row] for row, place in enumerate(places)})
        return torch.stack([said[key] for key in sorted(said)])

    def _encode(self, source: Many[int], row: int) -> None:
        """Write into ``row`` what every decoder layer reads of the source."""
        ids = torch.tensor([source], device=self._base.device)
        states = self._model.encoder(input_ids=ids).last_hidden_state
        for place, block in enumerate(self._model.decoder.block):
            attention = block.layer[1].EncDecAttention
            shape = (len(source), attention.n_heads, attention.key_value_proj_dim)
            keys, values = attention.k(states).view(shape), attention.v(states).view(shape)
            self._cache.sources.write(row, place, keys, values)

    def _step(self, tokens: list[int], positions: list[int], sources: list[int]) -> Tensor:
        """Logits behind the token of each of the first rows; ``sources`` are the lengths."""
        device = self._base.device
        at = torch.tensor(positions, device=device)[:, None]
        self._cache.aim(at, max(sources))
        # (Where the cache holds the sources, the encoder's own output is read no more.)
        nothing = self._bias.new_empty(len(tokens), 0, self._model.config.d_model)
        output = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=nothing),
            attention_mask=_source_mask(sources, self._base.dtype, device),
            decoder_input_ids=torch.tensor(tokens, device=device)[:, None],
            decoder_attention_mask=self._answer_mask(at),
            past_key_values=self._cache,
            use_cache=True,
        )
        return cast(Tensor, output.logits)[:, -1]

    def _answer_mask(self, positions: Tensor) -> Tensor:
        """Bias of each row's own distances, and none of what lies ahead: [rows, heads, 1, all]."""
        distances = positions - torch.arange(int(positions.max()) + 1, device=positions.device)
        bias = self._bias[distances.clamp(0, self._farthest)]
        bias = bias.masked_fill(distances[..., None] < 0, float("-inf"))
        return bias.permute(0, 2, 1)[:, :, None]


def decoder_start(model: Any, model_id: str) -> int:
    """The token before every answer, as `generate` finds it."""
    for name in ("decoder_start_token_id", "bos_token_id"):
        for config in (model.generation_config, model.config):
            token = getattr(config, name, None)
            if token is not None:
                return int(token)
    raise InvalidData(f"{model_id} does not say which token its answers start with.")


def own_logits(model: Any, model_id: str) -> Tensor:
    """What the untouched model says at every token of two answers: [2 * steps, vocabulary]."""
    answer = _answer(model, decoder_start(model, model_id))[None]
    logits = [
        model(input_ids=_ids(model, source)[None], decoder_input_ids=answer, use_cache=False).logits
        for source in PROBE_SOURCES
    ]
    return torch.cat(logits, dim=1)[0]


def _ids(model: Any, count: int) -> Tensor:
    return torch.arange(count, 0, -1, device=model.device) % int(model.config.vocab_size)


def _answer(model: Any, start: int) -> Tensor:
    ids = _ids(model, PROBE_STEPS)
    ids[0] = start
    return ids


def _source_mask(lengths: list[int], dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Hides what is behind the end of each row's source: [rows, 1, 1, all]. None where nothing
    is."""
    longest = max(lengths)
    if min(lengths) == longest:
        return None
    behind = torch.arange(longest, device=device) >= torch.tensor(lengths, device=device)[:, None]
    mask = torch.zeros(behind.shape, dtype=dtype, device=device)
    return mask.masked_fill_(behind, float("-inf"))[:, None, None]


def _lengths(sequences: Many[Sequence]) -> tuple[int, int]:
    """Tokens of the longest answer, once it is at its end, and of the longest source."""
    answer = max(s.request.max_new_tokens for s in sequences)
    return answer, max(len(s.request.prompt_ids) for s in sequences)
