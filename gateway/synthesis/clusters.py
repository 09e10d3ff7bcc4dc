"""Kinds of failures: examples put together by the words that they share. Pure.

Words and sequences of letters, weighted by how seldom they are (TF-IDF); groups by spherical
k-means (Dhillon and Modha 2001), begun from examples that are far apart; as many groups as part the
examples best by the mean silhouette.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_CLUSTERS = 12
# More are not looked at: groups of failures show in so many.
MAX_EXAMPLES = 2000
_MAX_TERMS = 4000
_ROUNDS = 50
_TERMS_IN_A_LABEL = 4
# Below this a parting says nothing, and all are one kind.
_LEAST_SILHOUETTE = 0.02
_WORD = re.compile(r"[^\W\d_][\w'’-]+")
_GRAM = 4
# What stands in every English text; others are rare enough by their weights.
_STOP = frozenset(
    """a an and are as at be but by can could do does did for from had has have he her his how i if
    in into is it its me my no not of on or our out she should so some such than that the their
    them then there these they this those to up was we were what when where which who whom will
    with would you your""".split()  # noqa: SIM905 - read like a text
)


@dataclass(frozen=True)
class Cluster:
    """Examples of one kind (their places), and the words that tell it from the others."""

    label: str
    members: tuple[int, ...]


def cluster(texts: Sequence[str], *, count: int | Literal["auto"] = "auto") -> list[Cluster]:
    """The kinds of ``texts``, the largest first. All are in one of them, the same each time."""
    if not texts:
        return []
    points, words = _points(texts[:MAX_EXAMPLES])
    kinds = _parted(points, len(points) if count == "auto" else count, best=count == "auto")
    rest = len(texts) - len(points)
    found = []
    for kind in range(int(kinds.max()) + 1):
        members = np.flatnonzero(kinds == kind)
        if len(members):
            found.append((members, _label(members, words)))
    found.sort(key=lambda one: (-len(one[0]), int(one[0][0])))
    clusters = [Cluster(label, tuple(map(int, members))) for members, label in found]
    if rest:
        late = tuple(range(len(points), len(texts)))
        clusters[0] = Cluster(clusters[0].label, (*clusters[0].members, *late))
    return clusters


def _points(texts: Sequence[str]) -> tuple[Floats, list[list[str]]]:
    """A row of length 1 for each text, and the words of each."""
    words = [_words(text) for text in texts]
    terms = [Counter(_terms(own, text)) for own, text in zip(words, texts, strict=True)]
    documents: Counter[str] = Counter()
    for own in terms:
        documents.update(own.keys())
    shared = [term for term, count in documents.most_common() if count > 1][:_MAX_TERMS]
    columns = {term: place for place, term in enumerate(sorted(shared))}
    points: Floats = np.zeros((len(texts), len(columns) + 1))
    for row, own in enumerate(terms):
        for term, count in own.items():
            if (column := columns.get(term)) is not None:
                rarity = math.log((1 + len(texts)) / (1 + documents[term]))
                points[row, column] = (1 + math.log(count)) * rarity
        if not points[row].any():
            points[row, -1] = 1.0
    return points / np.linalg.norm(points, axis=1, keepdims=True), words


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP]


def _terms(words: Sequence[str], text: str) -> list[str]:
    """Words, and the letters in a row that words of one stem share. Where a text has no words as
    these are (other scripts), its characters."""
    if not words:
        plain = "".join(text.lower().split())
        return [plain[place : place + 2] for place in range(max(1, len(plain) - 1))]
    grams = (
        word[place : place + _GRAM]
        for word in words
        for place in range(len(word) - _GRAM)
        if len(word) > _GRAM
    )
    return [*words, *(f"~{gram}" for gram in grams)]


def _parted(points: Floats, count: int, *, best: bool) -> npt.NDArray[np.int64]:
    distinct = len(np.unique(points.round(9), axis=0))
    most = min(count, distinct, MAX_CLUSTERS)
    if not best:
        return _kmeans(points, max(1, most))
    alike = points @ points.T
    chosen, score = np.zeros(len(points), dtype=np.int64), _LEAST_SILHOUETTE
    for tried in range(2, min(most, max(2, len(points) // 3)) + 1):
        kinds = _kmeans(points, tried)
        if (found := _silhouette(1 - alike, kinds)) > score + 1e-9:
            chosen, score = kinds, found
    return chosen


def _kmeans(points: Floats, count: int) -> npt.NDArray[np.int64]:
    centres = _far_apart(points, count)
    kinds = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        nearest = np.argmax(points @ centres.T, axis=1)
        if np.array_equal(nearest, kinds):
            break
        kinds = nearest
        for kind in range(count):
            members = points[kinds == kind]
            if len(members):
                centre = members.sum(axis=0)
                centres[kind] = centre / max(np.linalg.norm(centre), 1e-12)
    return kinds


def _far_apart(points: Floats, count: int) -> Floats:
    """The example nearest to the middle, then always the one farthest from those chosen."""
    chosen = [int(np.argmax(points @ points.sum(axis=0)))]
    nearest = points @ points[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, points @ points[chosen[-1]])
    return points[chosen].copy()


def _silhouette(distances: Floats, kinds: npt.NDArray[Any]) -> float:
    """Mean of how much nearer examples are to their own kind than to the next one (Rousseeuw)."""
    groups = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    if len(groups) < 2:
        return -1.0
    sums = np.stack([distances[:, group].sum(axis=1) for group in groups], axis=1)
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    own = np.searchsorted(np.unique(kinds), kinds)
    rows = np.arange(len(kinds))
    others = sizes[own] - 1
    inside = np.where(others > 0, sums[rows, own] / np.maximum(others, 1), 0.0)
    outside = sums / sizes
    outside[rows, own] = np.inf
    nearest = outside.min(axis=1)
    widths = (nearest - inside) / np.maximum(np.maximum(inside, nearest), 1e-12)
    return float(np.where(others > 0, widths, 0.0).mean())


def _label(members: npt.NDArray[Any], words: Sequence[Sequence[str]]) -> str:
    """The words that most of its examples have, and few others."""
    inside: Counter[str] = Counter()
    everywhere: Counter[str] = Counter()
    chosen = set(map(int, members))
    for place, own in enumerate(words):
        everywhere.update(set(own))
        if place in chosen:
            inside.update(set(own))
    if not inside:
        return "other"
    smooth = 1.0
    ranked = sorted(
        inside,
        key=lambda word: (
            -inside[word]
            * math.log(
                (inside[word] + smooth) / len(chosen) * len(words) / (everywhere[word] + smooth) + 1
            ),
            word,
        ),
    )
    return ", ".join(ranked[:_TERMS_IN_A_LABEL])
