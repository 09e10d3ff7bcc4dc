"""Batches that end before all was answered, or go on with somebody else."""

import time
from datetime import timedelta

import openai
import pytest

from gateway.settings import GatewaySettings
from gateway.tables import Batch, now
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.batches.over_openai import begin, content, counts, ended, lines, request
from tests.gateway.parts import until_true
from tests.valkey import Valkey


def test_a_cancel_keeps_what_was_answered(live: Live) -> None:
    live.inference.seconds_a_word = 0.05
    wanted = [request(f"r{number}", "x") for number in range(60)]
    with live.openai as client:
        made = begin(client, lines(*wanted))
        until_true(lambda: counts(client, made)[1] > 3)
        cancelling = client.batches.cancel(made.id)
        assert cancelling.status == "cancelling" and cancelling.cancelling_at is not None
        batch = ended(client, made)
        assert batch.status == "cancelled" and batch.cancelled_at is not None
        answered = content(client, batch.output_file_id)
        errors = content(client, batch.error_file_id)
        assert 3 < len(answered) < 60
        told = {one["custom_id"] for one in answered} | {one["custom_id"] for one in errors}
        assert told == {one["custom_id"] for one in wanted}
        assert len(answered) + len(errors) == 60
        assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
        assert all(one["response"] is None for one in errors)
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(made.id)


def test_a_cancel_does_not_wait_for_a_model_that_is_away(live: Live) -> None:
    live.inference.dead |= {f"base/{BUNDLED_MODEL}", BUNDLED_MODEL}
    with live.openai as client:
        made = begin(client, lines(request("a", "x")))
        until_true(lambda: len(live.inference.asked) > 0)
        began = time.monotonic()
        client.batches.cancel(made.id)
        batch = ended(client, made)
        # (It says that it will be back in seven seconds.)
        assert time.monotonic() - began < 5
        [error] = content(client, batch.error_file_id)
    assert (batch.status, error["error"]["code"]) == ("cancelled", "batch_cancelled")


def test_a_batch_whose_time_is_over_keeps_what_was_answered(live: Live) -> None:
    live.inference.seconds_a_word = 0.05
    with live.openai as client:
        made = begin(client, lines(*(request(f"r{number}", "x") for number in range(60))))
        until_true(lambda: counts(client, made)[1] > 3)
        with live.services.database.write() as session:
            session.get_one(Batch, made.id).expires_at = now()
        batch = ended(client, made)
        assert batch.status == "expired" and batch.expired_at is not None
        errors = content(client, batch.error_file_id)
        assert {one["error"]["code"] for one in errors} == {"batch_expired"}
        assert len(content(client, batch.output_file_id)) + len(errors) == 60


def test_a_lease_that_somebody_took_is_given_up(live: Live) -> None:
    live.inference.seconds_a_word = 0.05
    with live.openai as client:
        made = begin(client, lines(*(request(f"r{number}", "x") for number in range(40))))
        until_true(lambda: counts(client, made)[1] > 3)
        with live.services.database.write() as session:
            batch = session.get_one(Batch, made.id)
            batch.lease_holder, batch.lease_until = "other", now() + timedelta(seconds=2)
        until_true(lambda: live.inference.at_once == 0)
        assert counts(client, made)[1] < 40
        # The other one is not heard of again.
        answers = content(client, ended(client, made).output_file_id)
    assert [one["custom_id"] for one in answers] == [f"r{number}" for number in range(40)]


def test_requests_that_are_gone_fail_the_batch(live: Live) -> None:
    live.inference.stop()
    with live.openai as client:
        made = begin(client, lines(request("a", "x")))
        until_true(lambda: client.batches.retrieve(made.id).status == "in_progress")
        for path in (live.services.storage.root / "files").iterdir():
            path.unlink()
        with live.services.database.write() as session:
            session.get_one(Batch, made.id).lease_holder = "other"
        batch = ended(client, made)
        live.inference.start()
    assert batch.errors is not None and batch.errors.data is not None
    assert (batch.status, batch.errors.data[0].code) == ("failed", "file_missing")


def test_a_batch_goes_on_without_redis(settings: GatewaySettings, own_valkey: Valkey) -> None:
    with live_gateway(settings.model_copy(update={"redis_url": own_valkey.url})) as live:
        live.inference.seconds_a_word = 0.05
        with live.openai as client:
            made = begin(client, lines(*(request(f"r{number}", "x") for number in range(30))))
            until_true(lambda: counts(client, made)[1] > 3)
            own_valkey.stop()
            answers = content(client, ended(client, made).output_file_id)
            assert [one["custom_id"] for one in answers] == [f"r{number}" for number in range(30)]
            # One that begins now is answered, too.
            assert ended(client, begin(client, lines(request("a", "x")))).status == "completed"
