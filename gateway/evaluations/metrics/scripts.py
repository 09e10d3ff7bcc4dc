"""Which script texts are written in, as far as metrics that count words have to know it. Pure."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

Words = Literal["latin", "chinese", "characters", "unicode"]

# Scripts that put no spaces between words. (Hangul does.)
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
# Latin letters, with accents and without.
_LATIN = re.compile(r"[\u0000-\u024f\u1e00-\u1eff]")
# A share of other letters that is no name here and there any more.
_MANY = 0.1
_SAMPLE = 200_000


def words_of(texts: Iterable[str]) -> Words:
    """How most of the letters of ``texts`` (the references of an evaluation) come as words;
    "unicode" also where many are of another script than most."""
    letters = [char for char in "".join(texts)[:_SAMPLE] if char.isalpha()]
    if not letters:
        return "latin"
    unspaced = [char for char in letters if _UNSPACED.match(char)]
    if len(unspaced) > len(letters) / 2:
        kana = len(unspaced) - sum(bool(_HAN.match(char)) for char in unspaced)
        return "characters" if kana > len(unspaced) / 20 else "chinese"
    others = sum(_LATIN.match(char) is None for char in letters)
    return "unicode" if others > _MANY * len(letters) else "latin"


def tokens(text: str) -> list[str]:
    """Words in lower case, of any script; characters where a script has no spaces."""
    found, word = list[str](), ""
    for char in f"{text.lower()} ":
        alone = _UNSPACED.match(char) is not None
        if not alone and (char.isalnum() or (word and unicodedata.category(char)[0] == "M")):
            word += char
            continue
        found += [word] if word else []
        found += [char] if alone else []
        word = ""
    return found
