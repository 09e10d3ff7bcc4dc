"""Text to token ids and back, from any thread, for tokenizers of either kind.

Most are the compiled ones, which are asked directly: the methods around them set padding and
truncation first, which other threads must not see. A few (ByT5's) are plain Python.
"""

from collections.abc import Iterable
from typing import Any


class Codec:
    """What a model's tokenizer says of text and of tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._core = getattr(tokenizer, "backend_tokenizer", None)
        self._pieces: dict[int, str] = {}
        if self._core is not None:
            # A tokenizer file may ask for both; training sets them anew for each text, to none.
            self._core.no_truncation()
            self._core.no_padding()
        else:
            shown = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
            self._pieces = dict(zip(shown, tokenizer.convert_ids_to_tokens(shown), strict=True))

    def encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        """Token ids; ``special`` adds the tokens that the tokenizer puts around every text."""
        if self._core is not None:
            return tuple(self._core.encode(text, add_special_tokens=special).ids)
        return tuple(self._tokenizer.encode(text, add_special_tokens=special, verbose=False))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids, without special tokens and without ids that no token has."""
        if self._core is not None:
            return str(self._core.decode(list(ids), skip_special_tokens=True))
        pieces = [self._pieces[token] for token in ids if token in self._pieces]
        return str(self._tokenizer.convert_tokens_to_string(pieces))
