"""Which script texts are written in, as far as metrics that count words have to know it. Pure."""

import re
from collections.abc import Iterable
from typing import Literal

Words = Literal["latin", "chinese", "characters", "unicode"]

# Scripts that put no spaces between words. (Hangul does.)
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
# One of an unspaced script by itself, else a word.
TOKEN = re.compile(f"{_UNSPACED.pattern}|(?:(?!{_UNSPACED.pattern})[^\\W_])+")
_SAMPLE = 200_000


def words_of(texts: Iterable[str]) -> Words:
    """How most of the letters of ``texts`` (the references of an evaluation) come as words."""
    letters = [char for char in "".join(texts)[:_SAMPLE] if char.isalpha()]
    if not letters:
        return "latin"
    half = len(letters) / 2
    unspaced = [char for char in letters if _UNSPACED.match(char)]
    if len(unspaced) > half:
        kana = len(unspaced) - sum(bool(_HAN.match(char)) for char in unspaced)
        return "characters" if kana > len(unspaced) / 20 else "chinese"
    return "latin" if sum(char.isascii() for char in letters) > half else "unicode"


def tokens(text: str) -> list[str]:
    """Words in lower case, of any script; characters where a script has no spaces."""
    return TOKEN.findall(text.lower())
