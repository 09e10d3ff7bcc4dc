"""The events of one attempt on disk and on the stream, through restarts and torn lines."""

import asyncio
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from shared.run_events import Beat, Logged, Payload, RunEvent
from tests.trainer_service.runs import stream_events
from tests.valkey import Valkey
from trainer_service.event_log import EventLog


def word(text: str) -> Logged:
    return Logged(message=text)


def open_log(path: Path, attempt: int = 1, run_id: str = "run_a") -> EventLog:
    return EventLog(path, run_id=run_id, attempt=attempt)


def add_all(log: EventLog, *payloads: Payload) -> EventLog:
    for payload in payloads:
        log.add(payload)
    return log


def places(events: list[RunEvent]) -> list[tuple[int, Payload]]:
    return [(event.seq, event.payload) for event in events]


def publish(valkey: Valkey, log: EventLog) -> bool:
    async def send() -> bool:
        redis: Redis = Redis.from_url(valkey.url, socket_timeout=5)
        try:
            return await log.publish(redis)
        finally:
            await redis.aclose()

    return asyncio.run(send())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run_a" / "events.jsonl"


def test_a_restarted_attempt_goes_on_and_says_everything_again(path: Path, valkey: Valkey) -> None:
    assert publish(valkey, add_all(open_log(path), word("one"), word("two")))
    # Killed here: the third event is on disk and nowhere else.
    add_all(open_log(path), word("three"))
    again = open_log(path)
    assert again.last_seq == 3
    again.add(word("four"))
    assert publish(valkey, again) and not again.pending
    whole = list(enumerate(map(word, ("one", "two", "three", "four")), 1))
    assert places(again.written()) == whole
    # What was published before comes once more; readers know it by its number.
    assert places(stream_events(valkey)) == whole[:2] + whole


@pytest.mark.parametrize("kept", [1, 40, -2, -1])
def test_a_line_that_a_killed_worker_left_torn_costs_that_line_alone(path: Path, kept: int) -> None:
    """``-1`` is all of it but the line break."""
    add_all(open_log(path), word("one"), word("two"), word("three"))
    *whole, torn = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + torn[:kept])
    survivors = ["one", "two", "three"] if kept == -1 else ["one", "two"]
    again = open_log(path)
    assert again.last_seq == len(survivors)
    again.add(word("new"))
    expected = list(enumerate(map(word, (*survivors, "new")), 1))
    assert places(again.written()) == places(list(again.pending)) == expected
    assert places(open_log(path).written()) == expected


TEXTS = st.lists(st.text(max_size=20), min_size=1, max_size=6)
PLACES = st.floats(0, 1)


def place_in(size: int, share: float) -> int:
    return min(size, int(share * (size + 1)))


@given(texts=TEXTS, cut=PLACES, more=TEXTS)
def test_wherever_the_file_was_cut_whole_lines_stay_and_new_ones_are_whole(
    texts: list[str], cut: float, more: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        add_all(open_log(path), *map(word, texts))
        content = path.read_bytes()
        kept = content[: place_in(len(content), cut)]
        path.write_bytes(kept)
        # (But for its end a line is whole, too.)
        ends = accumulate(len(line) for line in content.splitlines(keepends=True))
        survivors = texts[: sum(end - 1 <= len(kept) for end in ends)]
        expected = list(enumerate(map(word, (*survivors, *more)), 1))
        assert places(add_all(open_log(path), *map(word, more)).written()) == expected


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files can grow up to ``size`` bytes: what does not fit is cut short, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@given(before=TEXTS, room=PLACES, after=TEXTS)
def test_a_write_that_fails_midway_spoils_no_later_one(
    before: list[str], room: float, after: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        log = add_all(open_log(path), *map(word, before))
        size = path.stat().st_size
        # The shortest line there can be is longer.
        with room_for(size + place_in(90, room)), pytest.raises(OSError, match="too large"):
            log.add(word("lost"))
        add_all(log, *map(word, after))
        later = enumerate(map(word, after), len(before) + 2)
        assert places(log.written()) == [*enumerate(map(word, before), 1), *later]
        # On the stream nothing is missing.
        assert [event.seq for event in log.pending] == list(range(1, log.last_seq + 1))


@pytest.mark.parametrize("rubbish", [b"\xff\xfe\x00\n", b"{}\n", b"\n\n", b'{"seq": 9}\n'])
def test_lines_that_are_no_events_are_stepped_over(path: Path, rubbish: bytes) -> None:
    add_all(open_log(path), word("one"))
    with path.open("ab") as file:
        file.write(rubbish)
    assert places(list(add_all(open_log(path), word("two")).pending)) == [
        (1, word("one")),
        (2, word("two")),
    ]


def test_each_attempt_counts_its_own_events(path: Path) -> None:
    add_all(open_log(path), word("old"), word("old too"))
    add_all(open_log(path, run_id="run_b"), word("of another run"))
    second = open_log(path, attempt=2)
    assert second.last_seq == 0 and not second.pending
    second.add(word("new"))
    assert places(open_log(path, attempt=2).written()) == [(1, word("new"))]
    assert open_log(path).last_seq == 2


def test_what_waits_for_redis_goes_out_in_order_and_once(path: Path, valkey: Valkey) -> None:
    log = add_all(open_log(path), Beat(), word("one"))
    valkey.stop()
    assert not publish(valkey, log) and not log.reachable
    log.add(word("two"))
    valkey.start()
    assert publish(valkey, log) and log.reachable
    assert places(stream_events(valkey)) == [(1, Beat()), (2, word("one")), (3, word("two"))]
