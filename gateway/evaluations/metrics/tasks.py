"""What task data is, and which metrics a task has. Pure; loads none of the metrics."""

import difflib
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from gateway.evaluations.metrics.texts import label_of

Task = Literal["plantuml", "correction", "classification", "questions", "general"]
TASKS: tuple[Task, ...] = get_args(Task)

_FORM = ("stop_rate", "length", "length_ratio")
BY_TASK: dict[Task, tuple[str, ...]] = {
    "plantuml": ("render_rate", "structure_f1", "chrf", "exact_match", "perplexity", *_FORM),
    "correction": ("gleu", "exact_match", "rougeL", "bleu", "chrf", "perplexity", *_FORM),
    "classification": ("accuracy", "macro_f1", "exact_match", "perplexity", *_FORM),
    "questions": ("squad_em", "squad_f1", "rougeL", "exact_match", "perplexity", *_FORM),
    "general": (
        *("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf", "exact_match", "perplexity"),
        *_FORM,
    ),
}
NAMES = tuple(dict.fromkeys(name for names in BY_TASK.values() for name in names))

# What data must look like, in most of its rows, to be taken for a task.
_MOST = 0.8
_SIMILAR = 0.75
_MAX_LABELS = 30
_SHORT_LABEL, _SHORT_ANSWER = 60, 80
_LOOKED_AT = 200
_DIAGRAM = re.compile(r"^\s*@startuml\b", re.IGNORECASE)


def task_of(sources: Sequence[str], references: Sequence[Sequence[str]]) -> Task:
    """What is asked of a model by data with these sources and their references."""
    pairs = [(source, own[0]) for source, own in zip(sources, references, strict=True) if own]
    if not pairs:
        return "general"
    looked_at = pairs[:_LOOKED_AT]
    if _most(_DIAGRAM.match(target) is not None for _, target in looked_at):
        return "plantuml"
    targets = [label_of(target) for _, target in pairs]
    distinct = len(set(targets))
    if (
        2 <= distinct <= min(_MAX_LABELS, len(targets) // 3)
        and max(map(len, targets)) <= _SHORT_LABEL
    ):
        return "classification"
    if _most(_similar(source, target) for source, target in looked_at):
        return "correction"
    lengths = statistics.median(len(target) for _, target in looked_at)
    if lengths <= _SHORT_ANSWER and _most(
        "?" in source or "？" in source for source, _ in looked_at
    ):
        return "questions"
    return "general"


def _most(found: Iterable[bool]) -> bool:
    values = list(found)
    return sum(values) >= _MOST * len(values)


def _similar(source: str, target: str) -> bool:
    """Most words of the two are the same, in the same order."""
    left, right = source.split()[:500], target.split()[:500]
    return difflib.SequenceMatcher(None, left, right, autojunk=False).ratio() >= _SIMILAR
