"""Gates: what an evaluation must have shown before a model is put to work. Pure.

A rule such as ``rougeL >= base + 0.05`` holds where the interval of the difference to the baseline
lies wholly at or above 0.05 (``bound`` lower, which takes the end of the interval that speaks
against the model); with ``@ mean`` where the difference itself does. Instead of ``base``, a number.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.evaluations.metrics.tasks import NAMES

JUDGED = ("judge_similarity", "judge_preference")
_NUMBER = r"\d*\.?\d+"
_RULE = re.compile(
    r"\s*(?P<metric>[A-Za-z][A-Za-z0-9_]*)\s*(?P<comparison>>=|<=|≥|≤)\s*"
    r"(?:(?P<base>base|baseline)(?:\s*(?P<sign>[+-])\s*"
    rf"(?P<margin>{_NUMBER}))?|(?P<number>-?{_NUMBER}))"
    r"(?:\s*@\s*(?P<bound>lower|mean))?\s*"
)
_HOW = 'Write it as "rougeL >= base + 0.05", "perplexity <= base" or "render_rate >= 0.8"'


class GateRule(BaseModel):
    """``than``: ``base``, to which ``margin`` is added, or a number. ``comparison`` <= is for
    metrics of which less is better."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    comparison: Literal[">=", "<="] = ">="
    than: Literal["base"] | Annotated[float, Field(allow_inf_nan=False)] = "base"
    margin: float = Field(0.0, allow_inf_nan=False)
    bound: Literal["lower", "mean"] = "lower"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return parse_rule(given) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _known(self) -> "GateRule":
        if self.metric not in (*NAMES, *JUDGED):
            known = ", ".join((*NAMES, *JUDGED))
            raise ValueError(f"there is no metric {self.metric[:40]!r}; there are {known}")
        if self.margin and self.than != "base":
            raise ValueError("margin goes with base alone: write the number that you mean in than")
        return self

    def __str__(self) -> str:
        margin = f" {'+' if self.margin > 0 else '-'} {abs(self.margin):g}" if self.margin else ""
        than = f"base{margin}" if self.than == "base" else f"{self.than:g}"
        return f"{self.metric} {self.comparison} {than}" + (" @ mean" * (self.bound == "mean"))


class Gate(BaseModel):
    """The rules that a finished evaluation must bear out, all of them."""

    model_config = ConfigDict(extra="forbid")

    evaluation: str = Field(min_length=1, max_length=80)
    rules: list[GateRule] = Field(min_length=1, max_length=20)


@dataclass(frozen=True)
class Verdict:
    holds: bool
    sentence: str


def parse_rule(text: str) -> dict[str, Any]:
    """ValueError where it is no rule."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no rule. {_HOW}")
    comparison = {"≥": ">=", "≤": "<="}.get(found["comparison"], found["comparison"])
    rule: dict[str, Any] = {"metric": found["metric"], "comparison": comparison}
    if found["base"]:
        margin = float(found["margin"] or 0)
        rule |= {"than": "base", "margin": -margin if found["sign"] == "-" else margin}
    else:
        rule["than"] = float(found["number"])
    return rule | ({"bound": found["bound"]} if found["bound"] else {})


def evaluate_gate(evaluation: dict[str, Any], candidate: int, rule: GateRule) -> Verdict:
    """Whether the rule holds for a candidate of an evaluation (as the API shows it), and why."""
    results = evaluation["results"]
    if results is None:
        said = f"the evaluation {evaluation['id']} is {evaluation['status']} and has no results"
        return Verdict(False, f"{rule}: {said}.")
    name, baseline = evaluation["candidates"][candidate]["name"], evaluation["baseline"]
    used = {candidate, baseline} if rule.than == "base" else {candidate}
    if (problem := _incomplete(results, used)) is not None:
        return Verdict(False, f"{rule}: {problem}")
    if rule.than == "base" and candidate == baseline:
        said = f"{name} is what the others are compared with, and cannot be better than itself"
        return Verdict(False, f"{rule}: {said}.")
    if rule.than == "base":
        measured = next(one for one in results["comparisons"] if one["candidate"] == candidate)
        against = evaluation["candidates"][baseline]["name"]
        limit, what = rule.margin, f"the difference of {rule.metric} between {name} and {against}"
    else:
        measured = results["candidates"][candidate]
        limit, what = float(rule.than), f"{rule.metric} of {name}"
    found = measured["metrics"].get(rule.metric)
    if found is not None and rule.metric not in JUDGED and found["examples"] < results["examples"]:
        seen = f"{found['examples']} of {results['examples']} examples"
        return Verdict(False, f"{rule}: {rule.metric} could be measured of {seen} only.")
    return _compared(rule, found, limit, what)


def _incomplete(results: dict[str, Any], candidates: set[int]) -> str | None:
    for one in sorted(candidates):
        found = results["candidates"][one]
        if found.get("missing"):
            return (
                f"{found['missing']} answers of {found['name']} are missing: they could not be "
                "had. Resume or repeat the evaluation."
            )
    return None


def _compared(rule: GateRule, found: dict[str, Any] | None, limit: float, what: str) -> Verdict:
    if found is None or found["value"] is None:
        return Verdict(False, f"{rule}: {rule.metric} was not measured.")
    more = rule.comparison == ">="
    value = found["value"] if rule.bound == "mean" else found["low" if more else "high"]
    if value is None:
        return Verdict(False, f"{rule}: {rule.metric} has no interval: there are too few examples.")
    holds = value >= limit if more else value <= limit
    relation = ("at least" if more else "at most") if holds else ("below" if more else "above")
    end = "" if rule.bound == "mean" else f", its {'lower' if more else 'upper'} bound {value:.4g}"
    return Verdict(
        holds,
        f"{rule} {'holds' if holds else 'does not hold'}: {what} is {found['value']:.4g}{end}, "
        f"which is {relation} {limit:g}.",
    )
