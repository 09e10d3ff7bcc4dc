"""The log on both databases: what is written is found, counted, rated, harvested and forgotten."""

import json
from datetime import timedelta
from typing import Any

import pytest

from gateway.database import Database
from gateway.request_log.entries import Entry, Origin
from gateway.request_log.feedback import FeedbackSpec, rate
from gateway.request_log.harvest import HarvestSpec, make_dataset
from gateway.request_log.queries import RequestFilter, list_requests, summarize
from gateway.request_log.retention import forget
from gateway.request_log.writer import RequestLog
from gateway.tables import now
from shared.chat import ChatRequest
from shared.errors import InvalidData
from shared.storage import Storage
from tests.gateway.parts import OWNER, asynchronous

# What clients and service LLMs send now and then: half a character, a NUL.
STRANGE = 'Ärger "mit" 100%_\\ \U0001f600 \0 end'
HALF = "so \ud83d it is"


def entry(text: str, reply: str = "So it is.", **changes: Any) -> Entry:
    body = {"model": "small", "messages": [{"role": "user", "content": text}]}
    request = ChatRequest.model_validate(body | {"metadata": changes.pop("metadata", None)})
    made = Entry(OWNER, request, Origin(key_id="key_1"))
    choice = {"message": {"content": reply}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    made.answer = {"id": f"chatcmpl-{text[:5]}", "choices": [choice], "usage": usage}
    made.served_by = "small"
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def found(database: Database, **wanted: Any) -> list[str | None]:
    asked = RequestFilter.model_validate(wanted)
    return [row.prompt for row in list_requests(database=database, owner=OWNER, wanted=asked).data]


@asynchronous
async def test_what_is_written_is_found_counted_and_forgotten(either_database: Database) -> None:
    database, log = either_database, RequestLog(either_database)
    strange = entry(STRANGE, HALF, metadata={"wer": 'Jö "x"'})
    log.add(strange)
    log.add(entry("plain", created_at=now() - timedelta(days=8)))
    log.add(entry("bad", status=502, error_code="upstream_500", answer=None))
    await log.flush()
    assert (log.written, log.waiting) == (3, 0)
    kept = STRANGE.replace("\0", "\ufffd")
    for words in ("ÄRGER", "100%_\\", "\U0001f600", '"MIT"', "so ? IT"):
        assert found(database, q=words) == [kept], words
    for words in ("100_", "_ä", "nothing"):
        assert found(database, q=words) == []
    assert found(database, tag='wer:Jö "x"') == [kept]
    assert found(database, tag="wer:Jö") == []
    assert found(database, outcome="failed") == ["bad"]
    assert found(database, until=(now() - timedelta(days=7)).isoformat()) == ["plain"]
    summary = summarize(
        database=database, owner=OWNER, wanted=RequestFilter.model_validate({"model": "small"})
    )
    assert (summary.count, summary.failed, summary.prompt_tokens) == (3, 1, 6)
    assert forget(database=database, days=7) == 1 and forget(database=database, days=7) == 0
    assert found(database, q="plain") == []


@asynchronous
async def test_what_was_said_of_answers_decides_what_is_learned(
    either_database: Database, storage: Storage
) -> None:
    database, log = either_database, RequestLog(either_database)
    liked, bad, lost = entry("liked"), entry("bad"), entry("lost", status=502, answer=None)
    for one in (liked, bad, lost, entry("liked", "Newer."), entry(STRANGE, HALF)):
        log.add(one)
    await log.flush()

    def say(request: Entry, **said: Any) -> None:
        spec = FeedbackSpec.model_validate(said)
        rate(database=database, owner=OWNER, request_id=request.id, spec=spec, masks=True)

    say(liked, rating="up")
    say(bad, rating="down", comment="\0 by jane@mail.example")
    say(lost, rating="down", correction="As it is.")
    spec = HarvestSpec(name="traffic")
    made = make_dataset(database=database, storage=storage, owner=OWNER, spec=spec)
    lines = storage.dataset_source(made.id).read_text("utf-8").splitlines()
    rows = [[turn["content"] for turn in json.loads(line)["messages"]] for line in lines]
    assert rows == [
        ["lost", "As it is."],
        ["liked", "So it is."],
        [STRANGE.replace("\0", "\ufffd"), HALF.replace("\ud83d", "?")],
    ]
    nothing = HarvestSpec.model_validate(
        {"name": "x", "requests": {"feedback": "none", "q": "bad"}}
    )
    with pytest.raises(InvalidData):
        make_dataset(database=database, storage=storage, owner=OWNER, spec=nothing)
