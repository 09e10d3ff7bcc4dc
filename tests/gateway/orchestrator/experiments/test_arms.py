"""What of a request log counts for which arm."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.orchestrator.experiments.arms import Arms, columns, read_arms
from gateway.orchestrator.experiments.spec import Terms
from gateway.tables import LoggedRequest, now
from tests.gateway.orchestrator.experiments.traffic import row


def read(*rows: LoggedRequest, mode: Any = "live", **terms: Any) -> Arms:
    return read_arms(
        rows, control="old", treatment="new", terms=Terms.model_validate(terms), mode=mode
    )


def test_each_answer_counts_for_the_arm_that_was_drawn() -> None:
    arms = read(
        row("old", feedback=1),
        row("new", feedback=-1),
        row("new", feedback=1),
        row("new"),
        row("else", feedback=1),
        row("", drawn=None, served_by="new", feedback=1),
    )
    assert arms.control.outcomes == [1.0]
    assert arms.treatment.outcomes == [0.0, 1.0, 1.0]
    assert len(arms.treatment.errors) == 4 and not any(arms.treatment.errors)


def test_a_fallback_is_an_error_of_the_drawn_and_no_outcome_of_anybody() -> None:
    arms = read(
        row("new", served_by="old", fallbacks=1, fallback_reason="stream_cut", feedback=1),
        row("new", served_by=None, status=503, error_code="unavailable"),
        row("new", served_by=None, status=429),
        row("new", continued_by="old", feedback=1),
        row("", drawn=None, served_by="old", fallbacks=1),
    )
    assert arms.treatment.errors == [1.0] * 4 and arms.treatment.seconds == []
    assert arms.treatment.outcomes == arms.control.outcomes == arms.control.errors == []


def test_drills_and_the_clients_own_mistakes_count_for_nobody() -> None:
    arms = read(
        row("new", fallbacks=1, served_by="old", fallback_reason="drill_429"),
        row("new", status=502, error_code="drill_cut"),
        row("new", continued_by="old", error_code="drill_stall"),
        row("new", continued_by="old", fallback_reason="drill_cut"),
        row("new", status=400, error_code="invalid_request"),
    )
    assert arms.treatment.errors == []


def test_who_left_without_a_word_was_not_answered() -> None:
    left = [
        row("new", status=499, seconds=2.0),
        row("new", status=499, seconds=12.0),
        row("new", status=499, seconds=12.0, first_token_seconds=0.2),
    ]
    treatment = read(*left, outcome="answered").treatment
    assert (treatment.errors, treatment.outcomes, treatment.seconds) == ([1.0], [0.0], [])
    assert treatment.waited == [2.0, 12.0, 12.0]
    # Where time is compared they have waited for as long as is counted at most.
    assert read(*left, outcome="latency").treatment.outcomes == [0.0] * 3
    assert read(*left, outcome="rendered").treatment.outcomes == []


def test_a_rating_that_is_changed_later_changes_nothing() -> None:
    early, late = now(), now() + timedelta(hours=1)
    changed = [
        row("new", feedback=-1, feedback_at=late, first_rating=1, first_rated_at=early),
        row("new", feedback=None, feedback_at=late, first_rating=1, first_rated_at=early),
    ]
    assert read(*changed, row("new", feedback=-1, feedback_at=late)).treatment.outcomes == [
        1.0, 1.0, 0.0,
    ]  # fmt: skip


def test_arms_are_compared_in_the_order_of_time() -> None:
    began = now()
    rows = [
        row(label, feedback=rating, feedback_at=began + timedelta(seconds=second))
        for second, label, rating in (
            (4, "old", 1), (1, "old", 1), (3, "new", -1),
            (2, "new", 1), (5, "old", 1), (6, "new", 1),
        )
    ]  # fmt: skip
    found = read(*rows)
    assert (found.by_outcome.differences, found.by_outcome.units) == ([0.0, -1.0, 0.0], 6)


def test_a_unit_counts_once_by_what_became_known_of_it_first() -> None:
    early, late = now(), now() + timedelta(hours=1)
    arms = read(
        row("new", unit="anna", feedback=-1, feedback_at=late),
        row("new", unit="anna", feedback=1, feedback_at=early),
        row("new", unit="ben", feedback=-1, feedback_at=early - timedelta(hours=1)),
        row("new", unit="", feedback=1, feedback_at=late),
        row("new", unit="", feedback=1, feedback_at=late),
    )
    assert arms.treatment.outcomes == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("outcome", "changes", "expected"),
    [
        ("rendered", {"rendered": True}, [1.0]),
        ("rendered", {"rendered": False}, [0.0]),
        ("rendered", {}, []),
        ("thumbs", {"feedback": 0}, []),
        ("answered", {}, [1.0]),
        ("answered", {"status": 500}, [0.0]),
        ("latency", {"seconds": 3.0}, [0.9]),
        ("latency", {"seconds": 300.0}, [0.0]),
        ("latency", {"seconds": -1.0}, [1.0]),
        # Who fails is neither quick nor one who draws well.
        ("latency", {"served_by": "old", "fallbacks": 1}, [0.0]),
        ("rendered", {"status": 503, "served_by": None, "kind": "diagram"}, [0.0]),
        ("rendered", {"status": 503, "served_by": None}, []),
        ("thumbs", {"served_by": "old", "fallbacks": 1, "feedback": 1}, []),
    ],
)
def test_outcomes_lie_between_0_and_1(
    outcome: str, changes: dict[str, Any], expected: list[float]
) -> None:
    assert read(row("new", **changes), outcome=outcome).treatment.outcomes == expected


def test_a_shadow_is_paired_with_what_the_reader_got() -> None:
    readers = [row("old", id=f"req_{number}", rendered=number != 1) for number in range(3)]
    shadows = [
        row("", drawn=None, served_by="new", shadow_of="req_1", rendered=True),
        row("", drawn=None, served_by="new", shadow_of="req_0", rendered=False),
        row("", drawn=None, served_by="new", shadow_of="req_2", status=503),
        row("", drawn=None, served_by="other", shadow_of="req_2", rendered=True),
        row("", drawn=None, served_by="new", shadow_of="req_gone", rendered=True),
        row("", drawn=None, served_by="new", shadow_of="req_third", rendered=True),
    ]
    readers.append(row("third", id="req_third", rendered=True))
    arms = read(*readers, *shadows, mode="shadow", outcome="rendered")
    assert (arms.control.outcomes, arms.treatment.outcomes) == ([0.0, 1.0], [1.0, 0.0])
    assert arms.treatment.errors == [0.0, 0.0, 1.0] and len(arms.control.errors) == 3
    # In a live experiment shadows are nobody's requests.
    assert read(*readers, *shadows, outcome="rendered").treatment.errors == []


def test_a_later_look_only_adds_though_long_requests_are_logged_late() -> None:
    began = now()
    rows = [
        row("new", created_at=began + timedelta(seconds=start), seconds=took, rendered=drawn)
        for start, took, drawn in ((0, 90.0, False), (10, 1.0, True), (20, 1.0, True))
    ]
    early = read(*rows[1:], outcome="rendered").treatment
    late = read(*rows, outcome="rendered").treatment
    assert early.outcomes == [1.0, 1.0] and late.outcomes == [1.0, 1.0, 0.0]
    assert late.seconds == [1.0, 1.0, 90.0]


def test_texts_are_not_read() -> None:
    names = {column.key for column in columns(LoggedRequest)}
    assert {"unit", "drawn", "feedback_at"} <= names and not names & {"messages", "reply"}
