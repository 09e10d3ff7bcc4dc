"""What must hold whatever happened: I1 to I12, each a function from evidence to complaints."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from shared.runs import TERMINAL
from tests.chaos.evidence import Evidence, collect
from tests.chaos.stack import Stack
from tests.chaos.times import scaled

LIVE = ("validating_files", "queued", "running", "paused")
SILENCE_SECONDS = 40.0
# The sweep comes every so often, and on a busy machine late.
BUSY_SILENCE_SECONDS = 10.0
# Where a run may go within an attempt; to a later attempt only by way of the queue.
_MOVES = {
    "validating_files": ("queued", "failed", "cancelled"),
    "queued": ("running", "paused", "succeeded", "failed", "cancelled"),
    "running": ("paused", "succeeded", "failed", "cancelled"),
    "paused": ("queued", "cancelled"),
}

Complaints = Iterator[str]


def i1_acknowledged_runs_exist(evidence: Evidence) -> Complaints:
    """Each run that was acknowledged is terminal or live."""
    states = {run["id"]: run["status"] for run in evidence.runs}
    for run in evidence.acknowledged:
        if states.get(run["id"]) not in (*TERMINAL, *LIVE):
            yield f"run {run['id']} was acknowledged and is {states.get(run['id'])}"


def i2_one_success_and_one_result(evidence: Evidence) -> Complaints:
    """A success is said once, and its result is what was said."""
    successes = Counter(
        event["run_id"]
        for event in evidence.events
        if event["type"] == "finished" and event["payload"]["status"] == "succeeded"
    )
    for run in evidence.runs:
        found, result = successes[run["id"]], evidence.results[run["id"]]
        if found != (run["status"] == "succeeded"):
            yield f"run {run['id']} is {run['status']} with {found} successes"
        if run["status"] != "succeeded":
            continue
        if result.problem or result.manifest_sha256 != run["manifest_sha256"]:
            yield f"the result of run {run['id']}: {result.problem or 'another manifest'}"


def i3_no_silent_run_stays_running(evidence: Evidence) -> Complaints:
    """While Redis and the gateway are up, no run is running unheard for long."""
    longest = scaled(SILENCE_SECONDS) + BUSY_SILENCE_SECONDS
    for (run_id, attempt), seconds in evidence.observed.silences.items():
        if seconds > longest:
            yield f"run {run_id} attempt {attempt} was running unheard for {seconds:.1f} s"


def i4_events_tell_a_legal_path(evidence: Evidence) -> Complaints:
    """Events are numbered without gaps; the database knows no others, and of the attempt that
    ended a run all; attempts never fall."""
    # A disk that is full takes no events either; the stream still does.
    unwritten = {run["id"] for run in evidence.runs if run.get("error_code") == "disk_full"}
    yield from _numbers(evidence, unwritten)
    written = {_key(event) for events in evidence.files.values() for event in events}
    # Number 0 is the gateway's own note.
    stored = {_key(event) for event in evidence.events if event["seq"] > 0}
    for key in stored - written:
        if key[0] not in unwritten:
            yield f"event {key} is in the database alone"
    last = {run["id"]: run["attempt"] for run in evidence.runs if run["status"] == "succeeded"}
    for run_id, events in evidence.files.items():
        for event in events:
            kept = event["payload"]["type"] != "heartbeat"
            if kept and event["attempt"] == last.get(run_id) and _key(event) not in stored:
                yield f"event {_key(event)} never came to the database"
    yield from _moves(evidence)


def _key(event: dict[str, Any]) -> tuple[str, int, int]:
    return (event["run_id"], event["attempt"], event["seq"])


def _numbers(evidence: Evidence, unwritten: set[str]) -> Complaints:
    for run_id in evidence.files.keys() - unwritten:
        numbers = defaultdict(list)
        for event in evidence.files[run_id]:
            numbers[event["attempt"]].append(event["seq"])
        for attempt, seqs in numbers.items():
            if seqs != list(range(1, len(seqs) + 1)):
                yield f"run {run_id} attempt {attempt} has the events {seqs}"


def _moves(evidence: Evidence) -> Complaints:
    last: dict[str, tuple[str, int]] = {}
    for seen in evidence.observed.seen:
        status, attempt = last.get(seen.run_id, ("queued", seen.attempt))
        last[seen.run_id] = (seen.status, seen.attempt)
        if seen.attempt == attempt:
            legal = seen.status == status or seen.status in _MOVES.get(status, ())
        else:
            legal = seen.attempt > attempt and status not in TERMINAL
        if not legal:
            yield (
                f"run {seen.run_id} went from {status} at attempt {attempt} to {seen.status} at "
                f"attempt {seen.attempt}"
            )


def i5_datasets_are_what_was_sent(evidence: Evidence) -> Complaints:
    """The same sha256 on disk, in the database and at the client."""
    rows = {row["id"]: row for row in evidence.datasets}
    for sent in evidence.datasets_sent:
        row = rows.get(sent["id"])
        if row is None:
            yield f"dataset {sent['id']} was acknowledged and is gone"
        elif not row["deleted_at"]:
            found = {sent["sha256"], row["sha256"], evidence.dataset_hashes.get(sent["id"])}
            if len(found) > 1:
                yield f"dataset {sent['id']} has the hashes {found}"


def i6_artifacts_match_and_none_is_orphaned(evidence: Evidence) -> Complaints:
    """What the database names is there and whole; nothing else is there."""
    owned = {"runs": {run["id"] for run in evidence.runs}}
    owned["datasets"] = {row["id"] for row in evidence.datasets if not row["deleted_at"]}
    for kind, names in owned.items():
        for orphan in evidence.folders.get(kind, set()) - names:
            yield f"{kind}/{orphan} belongs to nobody"
    for dataset in owned["datasets"] - set(evidence.dataset_hashes):
        yield f"dataset {dataset} has no file"


def i7_one_run_for_one_key(evidence: Evidence) -> Complaints:
    """However often it is asked for under one key, one run is made."""
    made = Counter(run["spec"].get("suffix") for run in evidence.runs)
    for suffix in {asked["suffix"] for asked in evidence.asked}:
        if made[suffix] > 1:
            yield f"{made[suffix]} runs were made for the key {suffix}"
    named = defaultdict(set)
    for run in evidence.acknowledged:
        named[run["key"]].add(run["id"])
    for key, ids in named.items():
        if len(ids) > 1:
            yield f"the key {key} was answered with the runs {ids}"


def i8_one_child_on_a_device(evidence: Evidence) -> Complaints:
    """Never do two children share a device, nor do two train one run."""
    for together in evidence.observed.together:
        for one, other in combinations(together, 2):
            if one.device == other.device:
                yield f"two children at once on {one.device}: {one}, {other}"
            if one.run_id == other.run_id:
                yield f"two children at once for run {one.run_id}: {one}, {other}"


def i9_steps_rise_and_go_on_from_checkpoints(evidence: Evidence) -> Complaints:
    """Within an attempt steps rise by one, from 0 or the checkpoint that it went on from; a success
    has the metrics of each step, but for the last ones of an attempt whose worker was lost.

    Those are the steps between the last event that came to the database and the checkpoint that the
    next attempt went on from. The child had saved that one, but what it said of these steps was
    still in the pipe to a worker that was killed or frozen, or in that worker's file while Redis
    was away. Nobody takes these steps again, and what comes late of an older attempt is refused.
    Stricter would be to keep the metrics in each checkpoint and to have each attempt say them anew.
    """
    stored = {_key(event) for event in evidence.events}
    measured = defaultdict(set)
    for row in evidence.metrics:
        measured[row["run_id"]].add(row["step"])
    for run in evidence.runs:
        told = [event for event in evidence.files[run["id"]] if _key(event) in stored]
        yield from _steps(run["id"], told)
        if run["status"] != "succeeded" or run.get("stopped"):
            continue
        ended = {
            event["attempt"]
            for event in evidence.events
            if event["run_id"] == run["id"] and event["payload"]["type"] == "finished"
        }
        needed = set(range(1, run["total_steps"] + 1)) - _untold(told, ended)
        needed |= {event["payload"]["step"] for event in told if _is_step(event)}
        if missing := needed - measured[run["id"]]:
            yield f"run {run['id']} succeeded without the steps {sorted(missing)}"


def _untold(told: list[dict[str, Any]], ended: set[int]) -> set[int]:
    """Steps of attempts that nobody ``ended``, saved but not told of."""
    step, teller = 0, 1
    untold: set[int] = set()
    for event in sorted(told, key=_key):
        resumed = event["payload"].get("resumed_from_step")
        if resumed is not None and set(range(teller, event["attempt"])) - ended:
            untold |= set(range(step + 1, resumed + 1))
        elif _is_step(event):
            step, teller = event["payload"]["step"], event["attempt"]
    return untold


def _steps(run_id: str, events: list[dict[str, Any]]) -> Complaints:
    step, attempt = 0, 0
    for event in sorted(events, key=_key):
        if event["attempt"] != attempt:
            attempt, step = event["attempt"], 0
        if (resumed := event["payload"].get("resumed_from_step")) is not None:
            step = resumed
        elif _is_step(event):
            if event["payload"]["step"] != step + 1:
                yield (
                    f"run {run_id} attempt {attempt} went from step {step} to "
                    f"{event['payload']['step']}"
                )
            step = event["payload"]["step"]


def _is_step(event: dict[str, Any]) -> bool:
    payload = event["payload"]
    return payload["type"] == "metrics" and payload.get("loss") is not None


def i10_nothing_is_left(evidence: Evidence) -> Complaints:
    """No process, half-written file or open file too many; the database is whole."""
    yield from (f"left over: {name}" for name in evidence.temporary)
    yield from (f"still runs: {command}" for command in evidence.strangers)
    yield from (f"open files of {grown}" for grown in evidence.files_grown)
    yield from (f"the database: {said}" for said in evidence.integrity)


def i11_logs_keep_secrets_and_tell_no_tracebacks(evidence: Evidence) -> Complaints:
    yield from evidence.shown_secrets
    yield from evidence.tracebacks


def i12_each_stream_ends_once(evidence: Evidence) -> Complaints:
    """A stream ends in exactly one of [DONE], an error event, the client's abort."""
    for stream in evidence.streams:
        if len(stream["ends"]) != 1:
            yield f"the stream of {stream['of']} ended with {stream['ends']}"


INVARIANTS: tuple[Callable[[Evidence], Complaints], ...] = (
    i1_acknowledged_runs_exist,
    i2_one_success_and_one_result,
    i3_no_silent_run_stays_running,
    i4_events_tell_a_legal_path,
    i5_datasets_are_what_was_sent,
    i6_artifacts_match_and_none_is_orphaned,
    i7_one_run_for_one_key,
    i8_one_child_on_a_device,
    i9_steps_rise_and_go_on_from_checkpoints,
    i10_nothing_is_left,
    i11_logs_keep_secrets_and_tell_no_tracebacks,
    i12_each_stream_ends_once,
)


def complaints(evidence: Evidence) -> list[str]:
    return [
        f"{invariant.__name__}: {complaint}"
        for invariant in INVARIANTS
        for complaint in invariant(evidence)
    ]


def check(stack: Stack) -> None:
    """Fail with all that does not hold."""
    assert stack.monitor.problem is None, stack.monitor.problem
    found = complaints(collect(stack))
    assert not found, "\n".join(found)
