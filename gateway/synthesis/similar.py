"""Texts that are nearly the same: by the sequences of five characters that they have in common.
Pure. (What says the same in other words is another text.)

Candidates come from an index of hashed sequences, of long texts a sample of them (those whose hash
is a multiple of eight: the same ones in every text, so that what two texts share is sampled alike);
each candidate is then compared exactly. MinHash has the same idea (Broder 1997, "On the resemblance
and containment of documents"); at the sizes of a data set this keeps no signatures, and errs less.
"""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

GRAM = 5
# Of texts in characters that are words, or half of one: Chinese, Japanese, Korean.
_DENSE_GRAM = 2
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]+")
# Texts with more sequences than this are indexed by a sample.
_WHOLE = 400
_SAMPLED = 8
# A sequence that so many texts hold (@startuml) tells nothing.
_COMMON = 2000
_COMPARED = 20
# Where one text lies in the other: below so many sequences that would be chance.
_ENOUGH_TO_CONTAIN = 30
# What stands between numbers, or alone between words, is no punctuation.
_OPERATOR = re.compile(r"(?<=\d)[-*/](?=\d)|(?<=\w )[-*/](?= \w)")
_SIGNS = {"-": " − ", "*": " × ", "/": " ÷ "}

Name = TypeVar("Name", bound=Hashable)


class _Kept(dict[int, str]):
    """What becomes of a character, for `str.translate`: letters, numbers, marks (vowels, in many
    scripts) and symbols stay; what formats and is not seen goes."""

    def __missing__(self, code: int) -> str:
        kind = unicodedata.category(chr(code))
        kept = chr(code) if kind[0] in "LNMS" else "" if kind == "Cf" else " "
        self[code] = kept
        return kept


_KEPT = _Kept()


def plain(text: str) -> str:
    """What counts as the same: in lower case, one space between words, without punctuation (but
    for a text that is nothing else)."""
    lowered = unicodedata.normalize("NFKC", text).casefold()
    signed = _OPERATOR.sub(lambda found: _SIGNS[found[0]], lowered)
    return " ".join(signed.translate(_KEPT).split()) or lowered.strip()


def grams(text: str) -> frozenset[str]:
    """The sequences of a plain text; of a shorter one the text itself."""
    dense = sum(map(len, _DENSE.findall(text)))
    size = _DENSE_GRAM if 2 * dense > len(text) else GRAM
    if len(text) <= size:
        return frozenset((text,)) if text else frozenset()
    return frozenset(text[place : place + size] for place in range(len(text) - size + 1))


def resemblance(one: frozenset[str], other: frozenset[str]) -> float:
    """What they share of all that either has (Jaccard's index), from 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def containment(one: frozenset[str], other: frozenset[str]) -> float:
    """What the shorter one shares with the longer; for short texts the same as `resemblance`."""
    least = min(len(one), len(other))
    if least < _ENOUGH_TO_CONTAIN:
        return resemblance(one, other)
    return len(one & other) / least


@dataclass(frozen=True)
class Match(Generic[Name]):
    """The text that is nearest, and how near."""

    name: Name
    text: str
    similarity: float


@dataclass
class NearIndex(Generic[Name]):
    """Texts by name, to be asked for the nearest one. ``contained``: a text that lies in another
    one is the same, too."""

    contained: bool = False
    _texts: list[tuple[Name, str]] = field(default_factory=list, init=False)
    _places: dict[int, list[int]] = field(default_factory=dict, init=False)
    _exact: dict[str, int] = field(default_factory=dict, init=False)

    def add(self, name: Name, text: str) -> None:
        place, known = len(self._texts), plain(text)
        self._texts.append((name, text))
        self._exact.setdefault(known, place)
        hashes = {_hash(gram) for gram in grams(known)}
        if len(hashes) > _WHOLE:
            hashes = {one for one in hashes if one % _SAMPLED == 0}
        for one in hashes:
            self._places.setdefault(one, []).append(place)

    def nearest(self, text: str, *, least: float) -> Match[Name] | None:
        """The nearest text that is at least so similar."""
        wanted = plain(text)
        if not wanted:
            return None
        if (same := self._exact.get(wanted)) is not None:
            return Match(*self._texts[same], 1.0)
        own = grams(wanted)
        compare = containment if self.contained else resemblance
        found: Match[Name] | None = None
        for place, _ in self._candidates(own):
            name, other = self._texts[place]
            near = compare(own, grams(plain(other)))
            if near >= least and (found is None or near > found.similarity):
                found = Match(name, other, near)
        return found

    def _candidates(self, own: frozenset[str]) -> list[tuple[int, int]]:
        hits: Counter[int] = Counter()
        for gram in own:
            places = self._places.get(_hash(gram), ())
            if len(places) <= _COMMON:
                hits.update(places)
        return hits.most_common(_COMPARED)


def _hash(gram: str) -> int:
    # (Python's own differs from process to process: the same texts must be sampled everywhere.
    # Two that collide cost a comparison.)
    return zlib.crc32(gram.encode(errors="surrogatepass"))
