"""All metrics by name. Pure; loads the libraries that count."""

from collections.abc import Callable, Sequence
from functools import partial

from gateway.evaluations.metrics import answers, gleu, labels, overlap, questions, translation
from gateway.evaluations.metrics.kinds import Metric
from gateway.evaluations.metrics.scripts import Words, words_of

_MAKERS: dict[str, Callable[[Words], Metric]] = {
    **{kind: partial(overlap.rouge, kind) for kind in overlap.KINDS},
    "bleu": translation.bleu,
    "chrf": lambda _: translation.chrf(),
    "gleu": lambda _: gleu.gleu(),
    "exact_match": lambda _: answers.exact_match(),
    "accuracy": lambda _: labels.accuracy(),
    "squad_em": lambda _: questions.question_match(),
    "squad_f1": lambda _: questions.question_f1(),
    "render_rate": lambda _: answers.render_rate(),
    "structure_f1": lambda _: answers.structure(),
    "perplexity": lambda _: answers.perplexity(),
    "judge_similarity": lambda _: answers.similarity(),
    "judge_preference": lambda _: answers.preference(),
    "stop_rate": lambda _: answers.stop_rate(),
    "length": lambda _: answers.length(),
    "length_ratio": lambda _: answers.length_ratio(),
}


def metrics_of(names: Sequence[str], references: Sequence[Sequence[str]]) -> list[Metric]:
    """The metrics of these names, for answers to be measured against these references."""
    words = words_of(text for own in references for text in own)
    return [
        labels.macro_f1(references) if name == "macro_f1" else _MAKERS[name](words)
        for name in names
    ]
