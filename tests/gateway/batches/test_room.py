"""How much of the engine batches take, and what they wait for."""

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from gateway import completions
from gateway.answering.patience import Patience
from gateway.batches import answers, runner
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live
from tests.gateway.batches.over_openai import begin, content, counts, ended, lines, request
from tests.gateway.parts import until_true


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PATIENCE", Patience(longest_wait=0.05))


def test_half_of_the_engine_is_left_to_others(live: Live) -> None:
    live.inference.seconds_a_word = 0.02
    with live.openai as client:
        made = [
            begin(client, lines(*(request(f"r{number}", "x") for number in range(20))))
            for _ in range(2)
        ]
        assert [ended(client, batch).status for batch in made] == ["completed"] * 2
    assert live.inference.most_at_once == 4


def test_an_engine_that_starts_later_is_used_as_it_is(live: Live) -> None:
    live.inference.seconds_a_word, live.inference.capacity = 0.02, 12
    live.inference.stop()
    wanted = lines(*(request(f"r{number}", "x") for number in range(40)))
    with live.openai as client:
        early = begin(client, lines(request("a", "x")))
        until_true(lambda: client.batches.retrieve(early.id).status == "in_progress")
        live.inference.start()
        live.inference.most_at_once = 0
        assert ended(client, early).status == "completed"
        assert ended(client, begin(client, wanted)).status == "completed"
    assert live.inference.most_at_once == 6


def test_a_model_that_is_away_is_waited_for(live: Live) -> None:
    live.inference.dead.add(f"base/{BUNDLED_MODEL}")
    live.inference.dead.add(BUNDLED_MODEL)
    with live.openai as client:
        made = begin(client, lines(request("a", "x")))
        until_true(lambda: len(live.inference.asked) > 0)
        assert counts(client, made) == (1, 0)
        live.inference.dead.clear()
        assert ended(client, made).status == "completed"


def test_what_takes_too_long_is_tried_again_and_then_told_of(live: Live) -> None:
    live.inference.dies_with = (504, "timeout")
    live.inference.dead |= {f"base/{BUNDLED_MODEL}", BUNDLED_MODEL}
    with live.openai as client:
        batch = ended(client, begin(client, lines(request("a", "x"))))
        assert batch.status == "completed" and batch.output_file_id is None
        [line] = content(client, batch.error_file_id)
    assert (line["response"], line["error"]["code"]) == (None, "request_timeout")
    assert len(live.inference.asked) == 3


def test_a_database_that_is_away_fails_no_request(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, away = (
        completions.complete,
        [NoConnectionFree(), OperationalError("", None, OSError())],
    )

    async def sometimes(**given: Any) -> Any:
        if away:
            raise away.pop()
        return await complete(**given)

    monkeypatch.setattr(completions, "complete", sometimes)
    with live.openai as client:
        batch = ended(client, begin(client, lines(request("a", "x"))))
    assert batch.error_file_id is None and batch.output_file_id is not None and not away


def test_who_cannot_look_for_batches_goes_on_with_those_it_has(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.inference.seconds_a_word = 0.05
    looks: list[int] = []

    def claim(*_: object, **__: object) -> None:
        looks.append(1)
        raise OperationalError("", None, OSError())

    with live.openai as client:
        made = begin(client, lines(*(request(f"r{number}", "x") for number in range(30))))
        until_true(lambda: counts(client, made)[1] > 3)
        monkeypatch.setattr(runner, "claim", claim)
        assert ended(client, made).status == "completed"
    assert looks and live.inference.left_early == 0
