"""Exact match and F1 for questions, after the evaluation of SQuAD (Rajpurkar et al. 2016, 2018).

Lower case; without punctuation and the articles a, an, the; F1 over words, as a bag; of several
references the best one counts. Where one side has no words, both are right only together.
"""

import re
import string
from collections import Counter

from gateway.evaluations.answered import Answer
from gateway.evaluations.metrics.kinds import Averaged

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def word_f1(text: str, reference: str) -> float:
    left, right = normalised(text).split(), normalised(reference).split()
    if not left or not right:
        return float(left == right)
    shared = (Counter(left) & Counter(right)).total()
    return 2 * shared / (len(left) + len(right))


class QuestionMatch(Averaged):
    def of(self, answer: Answer) -> float:
        return float(normalised(answer.text) in map(normalised, answer.references))


class QuestionF1(Averaged):
    def of(self, answer: Answer) -> float:
        found = (word_f1(answer.text, reference) for reference in answer.references)
        return max(found, default=0.0)


def question_match() -> QuestionMatch:
    return QuestionMatch("squad_em", "Exact match (SQuAD)", "squad|normalised", binary=True)


def question_f1() -> QuestionF1:
    return QuestionF1("squad_f1", "F1 (SQuAD)", "squad|normalised|words")
