"""ROUGE: words and sequences that an answer shares with its references, by Google's rouge-score.

F-measures; of several references the best one counts, for each kind by itself; no stemming. Its
own tokenizer knows Latin letters and digits alone: for other scripts it gets another one.
"""

from dataclasses import dataclass
from functools import cache

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from gateway.evaluations.answered import Answer
from gateway.evaluations.metrics.kinds import Averaged
from gateway.evaluations.metrics.scripts import Words, tokens

KINDS = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
# The longest common sequence takes time by the product of two lengths.
MAX_CHARACTERS = 20_000


class _AnyScript(Tokenizer):  # type: ignore[misc]
    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


@dataclass(frozen=True)
class Rouge(Averaged):
    """One of the four kinds."""

    any_script: bool = False

    def of(self, answer: Answer) -> float:
        if not answer.references:
            return 0.0
        references = [reference[:MAX_CHARACTERS] for reference in answer.references]
        scorer = _scorer(self.name, self.any_script)
        found = scorer.score_multi(references, answer.text[:MAX_CHARACTERS])
        return float(found[self.name].fmeasure)


def rouge(kind: str, words: Words) -> Rouge:
    any_script = words != "latin"
    tokenizer = "any script" if any_script else "latin"
    signature = f"rouge-score|f-measure|stemmer:no|tokenizer:{tokenizer}"
    return Rouge(kind, KINDS[kind], signature, any_script=any_script)


@cache
def _scorer(kind: str, any_script: bool) -> RougeScorer:
    return RougeScorer([kind], tokenizer=_AnyScript() if any_script else None)
