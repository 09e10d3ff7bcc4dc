"""Properties of the one function that turns reports into a run's state."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.run_events import (
    MAX_FAILURES,
    MAX_PREEMPTIONS,
    Advanced,
    Beat,
    Checkpointed,
    Finished,
    Logged,
    Measured,
    Payload,
    RunEvent,
    RunState,
    Started,
    apply_event,
)
from shared.runs import TERMINAL

START = datetime(2026, 11, 1, tzinfo=UTC)

payloads: st.SearchStrategy[Payload] = st.one_of(
    st.just(Started(worker="w", device="cpu")),
    st.sampled_from(["preparing", "loading_model", "training", "saving"]).map(
        lambda phase: Advanced(phase=phase)
    ),
    st.builds(
        Measured,
        step=st.integers(1, 50),
        total_steps=st.just(50),
        epoch=st.floats(0, 3),
        loss=st.none() | st.floats(0, 9),
        eval_loss=st.none() | st.floats(0, 9),
    ),
    st.just(Logged(message="a line")),
    st.just(Checkpointed(step=10, path="step-10")),
    st.just(Beat()),
    st.builds(
        Finished,
        status=st.sampled_from(["succeeded", "failed", "cancelled", "preempted"]),
        retry=st.booleans(),
    ),
)


def event(payload: Payload, *, seq: int, attempt: int = 1) -> RunEvent:
    return RunEvent(
        run_id="run_a",
        attempt=attempt,
        seq=seq,
        time=START + timedelta(seconds=seq),
        payload=payload,
    )


events = st.builds(event, payload=payloads, seq=st.integers(1, 12), attempt=st.integers(1, 4))


def fold(state: RunState, history: list[RunEvent]) -> RunState:
    for one in history:
        state = apply_event(state, one)
    return state


QUEUED = RunState(status="queued", attempt=1)


@given(st.lists(events, max_size=40))
def test_seeing_an_event_twice_changes_nothing(history: list[RunEvent]) -> None:
    state = QUEUED
    for one in history:
        once = apply_event(state, one)
        if once.attempt == state.attempt:
            assert apply_event(once, one) == once
        state = once


@given(st.lists(payloads, min_size=1, max_size=20), st.data())
def test_reading_a_piece_of_the_stream_again_changes_nothing(
    history: list[Payload], data: st.DataObject
) -> None:
    stream = [event(payload, seq=seq) for seq, payload in enumerate(history, 1)]
    again = data.draw(st.integers(0, len(stream)))
    assert fold(fold(QUEUED, stream), stream[:again]) == fold(QUEUED, stream)


@given(st.lists(events, max_size=40))
def test_attempts_never_fall_and_ends_are_final(history: list[RunEvent]) -> None:
    state = QUEUED
    for one in history:
        after = apply_event(state, one)
        assert after.attempt in (state.attempt, state.attempt + 1)
        assert after.failures <= MAX_FAILURES
        if state.status in TERMINAL or one.attempt != state.attempt:
            assert after == state
        state = after


@given(st.lists(events, max_size=30), st.lists(events, max_size=30))
def test_old_attempts_change_nothing(before: list[RunEvent], late: list[RunEvent]) -> None:
    state = fold(QUEUED, before)
    old = [one for one in late if one.attempt < state.attempt]
    assert fold(state, old) == state


def test_a_preempted_run_waits_again_without_a_failure() -> None:
    running = fold(QUEUED, [event(Started(worker="w"), seq=1)])
    after = apply_event(running, event(Finished(status="preempted"), seq=2))
    assert (after.status, after.attempt, after.failures, after.last_seq) == ("queued", 2, 0, 0)


def stop(state: RunState, *before: Payload) -> RunState:
    """The state after an attempt that said so much and was stopped from outside."""
    said = [Started(worker="w"), *before, Finished(status="preempted")]
    return fold(state, [event(p, seq=n, attempt=state.attempt) for n, p in enumerate(said, 1)])


LOADING = Advanced(phase="loading_model")


def test_a_run_that_is_stopped_for_ever_without_a_checkpoint_fails() -> None:
    state = QUEUED
    for _ in range(MAX_PREEMPTIONS - 1):
        state = stop(state, LOADING)
    assert (state.status, state.failures, state.attempt) == ("queued", 0, MAX_PREEMPTIONS)
    state = stop(state, LOADING)
    assert (state.status, state.error_code) == ("failed", "preempted_too_often")
    assert state.failures == 0 and state.finished_at is not None
    assert "20 times" in (state.error_message or "")


def test_a_run_that_gets_on_may_be_stopped_as_often_as_you_like() -> None:
    state = QUEUED
    for step in range(1, 4 * MAX_PREEMPTIONS):
        state = stop(state, LOADING, Checkpointed(step=step, path=f"step-{step}"))
    assert (state.status, state.preemptions) == ("queued", 1)


def test_stops_before_an_attempt_has_begun_do_not_count() -> None:
    state = stop(QUEUED, LOADING)
    for _ in range(2 * MAX_PREEMPTIONS):
        state = stop(state)
    assert (state.status, state.preemptions) == ("queued", 1)


def test_the_third_failure_is_the_last() -> None:
    state = QUEUED
    for attempt in (1, 2, 3):
        assert state.attempt == attempt
        failed = Finished(status="failed", code="oom_killed", message="No memory.", retry=True)
        state = apply_event(state, event(failed, seq=1, attempt=attempt))
    assert (state.status, state.failures) == ("failed", 3)
    assert (state.error_code, state.error_message) == ("oom_killed", "No memory.")


@pytest.mark.parametrize("code", [None, "bad_data"])
def test_a_failure_without_retry_ends_the_run(code: str | None) -> None:
    state = apply_event(QUEUED, event(Finished(status="failed", code=code), seq=1))
    assert (state.status, state.error_code) == ("failed", code or "training_failed")
    assert state.error_message


def test_a_success_keeps_what_was_measured() -> None:
    state = fold(
        QUEUED,
        [
            event(Started(worker="w", device="cpu"), seq=1),
            event(Measured(step=3, total_steps=9, epoch=0.5, loss=1.5, eta_seconds=60), seq=2),
            event(Measured(step=3, total_steps=9, epoch=0.5, eval_loss=1.25), seq=3),
            event(Finished(status="succeeded", manifest_sha256="ab", trained_tokens=77), seq=4),
        ],
    )
    assert (state.status, state.loss, state.eval_loss, state.step) == ("succeeded", 1.5, 1.25, 3)
    assert (state.manifest_sha256, state.trained_tokens, state.eta_seconds) == ("ab", 77, None)
    assert state.started_at == START + timedelta(seconds=1)
    assert state.finished_at == START + timedelta(seconds=4)


def test_a_resumed_attempt_starts_at_its_checkpoint() -> None:
    state = QUEUED.model_copy(update={"step": 17, "attempt": 2})
    after = apply_event(
        state, event(Advanced(phase="training", resumed_from_step=10), seq=1, attempt=2)
    )
    assert (after.status, after.step, after.phase) == ("running", 10, "training")
