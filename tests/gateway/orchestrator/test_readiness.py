"""How good a fallback is on real prompts: the score, and how it is measured."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.database import Database
from gateway.orchestrator import readiness_reports
from gateway.orchestrator.background_asking import Told
from gateway.orchestrator.likeness import likeness
from gateway.orchestrator.readiness import figures_of, judge
from gateway.orchestrator.readiness_prompts import as_request, read_prompts
from gateway.orchestrator.readiness_reports import (
    ask_daily,
    ask_for_report,
    claim_report,
    find_report,
    get_report,
)
from gateway.tables import ReadinessReport, now
from shared.chat import ChatRequest, CompletionRequest
from shared.errors import Conflict, NotFound
from tests.gateway.orchestrator.experiments.traffic import ROUTE, make_route, store
from tests.gateway.orchestrator.prompts import FALLBACK, WHOSE, prompt


def told(
    reply: str | None = "Hello there!", *, rendered: bool | None = None, **changes: Any
) -> Told:
    diagram = {} if rendered is None else {"diagram": {"rendered": rendered}}
    answer = {"choices": [{"message": {"content": reply} | diagram}]}
    return Told(**({"status": 200, "seconds": 1.0, "answer": answer} | changes))


@given(st.text(max_size=50), st.text(max_size=50))
def test_likeness_is_a_share_and_the_same_is_alike(text: str, other: str) -> None:
    assert 0 <= likeness(text, other) <= 1
    assert likeness(text, text) == 1


def test_likeness_follows_what_is_shared() -> None:
    reference = "The order was sent on Monday."
    alike = [likeness(text, reference) for text in ("", "No.", "Sent on Monday.", reference)]
    assert alike == sorted(alike) and alike[0] == 0 and 0.3 < alike[2] < 0.9


@pytest.mark.parametrize(
    ("said", "lost", "score"),
    [
        (told(), "unanswered", 1.0),
        (told(None, status=503), "unanswered", 0.0),
        (told(None), "unanswered", 0.0),
        (told("@startuml", rendered=True), "undrawn", 1.0),
        (told("@startuml", rendered=False), "undrawn", 0.0),
        (told(seconds=10.0), "slow", 0.5),
        (told("zzz"), "unlike", 0.0),
    ],
)
def test_a_prompt_keeps_and_loses_points(said: Told, lost: str, score: float) -> None:
    found = judge(prompt(), said)
    assert found.score == pytest.approx(score)
    assert getattr(found, lost) == pytest.approx(1 - score)
    assert found.score + found.unanswered + found.undrawn + found.unlike + found.slow == (
        pytest.approx(1)
    )


def test_a_fallback_may_take_twice_as_long_as_the_reader_waited() -> None:
    slow_reader = prompt(seconds=20.0)
    assert judge(slow_reader, told(seconds=40.0)).score == 1
    assert judge(slow_reader, told(seconds=80.0)).slow == pytest.approx(0.5)


def test_the_score_is_a_mean_with_an_interval_and_its_losses() -> None:
    judged = [judge(prompt(id=f"req_{n}"), told()) for n in range(27)]
    judged += [judge(prompt(id=f"req_bad{n}"), told(None, status=500)) for n in range(3)]
    found = figures_of(judged)
    assert found.score == pytest.approx(90) and found.lost.unanswered == pytest.approx(10)
    assert 70 < found.low < 90 < found.high <= 100
    assert [one.request_id for one in found.worst] == ["req_bad0", "req_bad1", "req_bad2"]
    alone = figures_of(judged[:1])
    assert (alone.low, alone.score, alone.high) == (0, 100, 100) and alone.worst == []
    # Thirty good answers do not promise that all are.
    thirty = figures_of([judge(prompt(id=f"req_{n}"), told()) for n in range(30)])
    assert 85 < thirty.low < 95 and thirty.high == thirty.score == 100


def test_requests_are_made_of_what_was_logged() -> None:
    chat = as_request(prompt(completion_tokens=100))
    assert isinstance(chat, ChatRequest) and chat.max_tokens == 264 and chat.diagram is None
    drawn = as_request(prompt(kind="diagram"))
    assert isinstance(drawn, ChatRequest) and drawn.diagram is not None
    plain = as_request(prompt(kind="completion"))
    assert isinstance(plain, CompletionRequest) and plain.prompt == "Question 0?"
    for messages in ([], [{"role": "user"}], [{"role": "tool", "content": "x"}], [{"a": 1}]):
        assert as_request(prompt(messages=messages)) is None
        assert messages != [] or as_request(prompt(kind="completion", messages=messages)) is None


def test_prompts_are_those_of_the_last_day_once_each(database: Database) -> None:
    make_route(database, **FALLBACK)
    good = [prompt(number % 5) for number in range(20)]
    bad = [
        prompt(10, created_at=now() - timedelta(hours=25)),
        prompt(11, status=503),
        prompt(12, fallbacks=1),
        prompt(13, shadow_of="req_1"),
        prompt(14, reply=None),
        prompt(15, messages=None),
        prompt(16, owner="somebody"),
        prompt(17, route="other"),
        prompt(18, drawn="new", served_by="new"),
    ]
    store(database, good, bad)
    report = ask_for_report(database=database, **WHOSE)
    found = read_prompts(database, report, 30)
    questions = sorted(str(one.messages) for one in found)
    assert len(questions) == 5 and all("Question" in text for text in questions)
    assert {str(one.messages) for one in found} == {str(one.messages) for one in good}
    assert len(read_prompts(database, report, 3)) == 3
    assert [one.id for one in read_prompts(database, report, 3)] == [
        one.id for one in read_prompts(database, report, 3)
    ]


def test_one_report_at_a_time_and_one_gateway_for_it(either_database: Database) -> None:
    database = either_database
    make_route(database)
    with pytest.raises(Conflict, match="no fallback"):
        ask_for_report(database=database, **WHOSE)
    with pytest.raises(NotFound, match="not measured"):
        get_report(database=database, **WHOSE)
    with database.write() as session:
        route = session.get_one(readiness_reports.Route, ROUTE)
        route.fallbacks = FALLBACK["fallbacks"]
        session.add(route)
    first = ask_for_report(database=database, **WHOSE)
    assert ask_for_report(database=database, **WHOSE).id == first.id
    claimed = claim_report(database)
    assert claimed is not None and claimed.id == first.id and claim_report(database) is None
    with database.write() as session:
        stored = session.get_one(ReadinessReport, first.id)
        stored.claimed_at = now() - readiness_reports.ABANDONED - timedelta(seconds=1)
        session.add(stored)
    again = claim_report(database)
    assert again is not None and again.id == first.id
    # The first one's claim is gone: it writes nothing any more.
    readiness_reports._finish(database, claimed, [])
    assert get_report(database=database, **WHOSE).status == "running"
    readiness_reports._finish(database, again, [])
    assert get_report(database=database, **WHOSE).status == "failed"


def test_it_is_measured_once_a_day_where_there_was_traffic(database: Database) -> None:
    make_route(database, **FALLBACK)
    ask_daily(database, 30)
    assert find_report(database=database, **WHOSE) is None
    store(database, [prompt()])
    ask_daily(database, 0)
    assert find_report(database=database, **WHOSE) is None
    ask_daily(database, 30)
    first = find_report(database=database, **WHOSE)
    assert first is not None and (first.status, first.fallback) == ("queued", "new")
    ask_daily(database, 30)
    with database.write() as session:
        assert len(session.exec(readiness_reports.select(ReadinessReport)).all()) == 1
        stored = session.get_one(ReadinessReport, first.id)
        stored.status, stored.created_at = "done", now() - timedelta(hours=25)
        session.add(stored)
    ask_daily(database, 30)
    second = find_report(database=database, **WHOSE)
    assert second is not None and second.id != first.id
    # Another fallback has no score yet, and is not compared with its own answers.
    with database.write() as session:
        session.get_one(ReadinessReport, second.id).status = "done"
        route = session.get_one(readiness_reports.Route, ROUTE)
        route.fallbacks = [{"deployment": "old"}]
    ask_daily(database, 30)
    nothing = find_report(database=database, **WHOSE)
    assert nothing is not None and nothing.id == second.id
    store(database, [prompt(1, drawn="new", served_by="new")])
    ask_daily(database, 30)
    third = find_report(database=database, **WHOSE)
    assert third is not None and third.fallback == "old"
