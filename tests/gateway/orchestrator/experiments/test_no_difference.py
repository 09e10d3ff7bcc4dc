"""Two arms that are the same, looked at again and again by the rules that run in the gateway: from
rows of the log to a decision, with all guardrails at their limits."""

import random
from copy import copy
from datetime import datetime, timedelta

import pytest

from gateway.orchestrator.experiments.arms import read_arms
from gateway.orchestrator.experiments.decisions import Decision, Standing, decide, stand
from gateway.orchestrator.experiments.spec import Terms
from gateway.tables import LoggedRequest, now
from tests.gateway.orchestrator.experiments.traffic import row

EXPERIMENTS, REQUESTS, LOOKS = 6, 400, 5
# Quantiles of `seconds` below: half, and 95 of 100 answers are as quick as that.
TAIL = 1.3
HALF, MOST = 0.5 * 2 ** (1 / TAIL), 0.5 * 20 ** (1 / TAIL)


def traffic(
    chance: random.Random, began: datetime, *, sticky: bool, users: int
) -> list[LoggedRequest]:
    """A few people ask most; each is content with his own share of the answers. Bad ratings come at
    once and good ones later, some are changed, and some answers fail."""
    people = [(f"user {n}", chance.betavariate(0.5, 0.5)) for n in range(users)]
    drawn = {name: chance.choice(("old", "new")) for name, _ in people}
    rows = []
    for number in range(REQUESTS):
        name, content = people[min(int(chance.expovariate(4 / users)), users - 1)]
        label = drawn[name] if sticky else chance.choice(("old", "new"))
        seconds = 0.5 * chance.paretovariate(TAIL)
        asked = row(
            label,
            created_at=began + timedelta(seconds=number),
            unit=name if sticky else f"request {number}",
            seconds=seconds,
        )
        if chance.random() < 0.05:
            asked.status, asked.served_by = 503, None
        elif chance.random() < 0.6:
            good = chance.random() < content
            later = chance.expovariate(1 / 100) if good else 1
            asked.first_rating = 1 if good else -1
            asked.first_rated_at = asked.created_at + timedelta(seconds=seconds + later)
            changed = chance.random() < 0.2
            asked.feedback = -asked.first_rating if changed else asked.first_rating
            asked.feedback_at = asked.first_rated_at + timedelta(seconds=200 * changed)
        rows.append(asked)
    return rows


def known(rows: list[LoggedRequest], at: datetime) -> list[LoggedRequest]:
    """The log as it was at that time."""
    ended = [copy(one) for one in rows if one.created_at + timedelta(seconds=one.seconds) <= at]
    for one in ended:
        if one.first_rated_at is not None and one.first_rated_at > at:
            one.first_rating = one.first_rated_at = one.feedback = one.feedback_at = None
        elif one.feedback_at is not None and one.feedback_at > at:
            one.feedback, one.feedback_at = one.first_rating, one.first_rated_at
    return ended


LIMITS = {"max_error_increase": 0.0, "p50_seconds": HALF, "p95_seconds": MOST}


def decisions(
    outcome: str, *, sticky: bool, users: int = 40, by_user: bool = True
) -> list[Decision]:
    """Those that were made of experiments without a difference."""
    terms = Terms.model_validate({"outcome": outcome, "guardrails": LIMITS})
    chance, began, decided = random.Random(11), now(), []
    for _ in range(EXPERIMENTS):
        rows, before = traffic(chance, began, sticky=sticky, users=users), None
        for one in rows if not by_user else []:
            one.unit = one.id
        for look in range(1, LOOKS + 1):
            at = began + timedelta(seconds=look * 1.2 * REQUESTS / LOOKS)
            before = _look(known(rows, at), terms, at, began, before)
            decision = decide(standing=before, terms=terms, began=began)
            if decision.status != "running":
                decided.append(decision)
                break
    return decided


@pytest.mark.parametrize(
    ("outcome", "sticky"), [("thumbs", True), ("thumbs", False), ("latency", False)]
)
def test_nothing_is_decided_where_there_is_no_difference(outcome: str, sticky: bool) -> None:
    # (Of six experiments one may well be that one of twenty.)
    assert len(decisions(outcome, sticky=sticky)) <= 1


def test_what_one_user_says_ten_times_would_look_like_ten_proofs() -> None:
    assert len(decisions("thumbs", sticky=True, users=10, by_user=False)) > 1
    assert len(decisions("thumbs", sticky=True, users=10)) == 0


def _look(
    rows: list[LoggedRequest],
    terms: Terms,
    at: datetime,
    began: datetime,
    before: Standing | None,
) -> Standing:
    arms = read_arms(rows, control="old", treatment="new", terms=terms)
    return stand(arms=arms, terms=terms, share=0.5, at=at, began=began, before=before)


def test_a_difference_is_seen_in_the_same_traffic() -> None:
    terms = Terms.model_validate({"outcome": "answered"})
    began = now()
    rows = traffic(random.Random(1), began, sticky=False, users=40)
    for one in rows:
        if one.drawn == "new" and random.Random(one.unit).random() < 0.4:
            one.status, one.served_by = 503, None
    at = began + timedelta(hours=1)
    standing = _look(known(rows, at), terms, at, began, None)
    assert decide(standing=standing, terms=terms, began=began).status == "rolled_back"
