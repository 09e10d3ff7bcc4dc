"""The checker finds what is wrong: a sound run passes, and each invariant fails of broken ones."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.chaos.evidence import Evidence, Result
from tests.chaos.invariants import INVARIANTS, SILENCE_SECONDS, complaints
from tests.chaos.monitor import Child, Observations, Seen

RUN, DATASET, KEY = "run_a", "ds_a", "key-a"
SHA = "ab" * 32


def event(attempt: int, seq: int, kind: str, **payload: Any) -> dict[str, Any]:
    return {
        "run_id": RUN,
        "attempt": attempt,
        "seq": seq,
        "type": kind,
        "payload": {"type": kind, **payload},
    }


EVENTS = [
    event(1, 1, "started"),
    event(1, 2, "state", phase="training"),
    event(1, 3, "metrics", step=1, loss=2.0),
    event(1, 4, "metrics", step=2, loss=1.5),
    event(1, 5, "checkpoint", step=2),
    event(2, 1, "started"),
    event(2, 2, "state", phase="training", resumed_from_step=2),
    event(2, 3, "metrics", step=3, loss=1.0),
    event(2, 4, "finished", status="succeeded"),
]


def sound() -> Evidence:
    """One run of three steps that lost its first worker."""
    return Evidence(
        acknowledged=[{"id": RUN, "key": KEY}],
        asked=[{"key": KEY, "suffix": KEY}, {"key": KEY, "suffix": KEY}],
        datasets_sent=[{"id": DATASET, "sha256": SHA}],
        streams=[{"of": RUN, "ends": ["done"]}],
        runs=[
            {
                "id": RUN,
                "status": "succeeded",
                "attempt": 2,
                "manifest_sha256": SHA,
                "spec": {"suffix": KEY},
                "stopped": None,
                "total_steps": 3,
            }
        ],
        events=deepcopy(EVENTS),
        metrics=[{"run_id": RUN, "step": step} for step in (1, 2, 3)],
        datasets=[{"id": DATASET, "sha256": SHA, "deleted_at": None}],
        files={RUN: deepcopy(EVENTS)},
        results={RUN: Result(None, SHA)},
        dataset_hashes={DATASET: SHA},
        folders={"runs": {RUN}, "datasets": {DATASET}},
        observed=Observations(
            seen=[
                Seen(1.0, RUN, "queued", 1),
                Seen(2.0, RUN, "running", 1),
                Seen(3.0, RUN, "queued", 2),
                Seen(4.0, RUN, "running", 2),
                Seen(5.0, RUN, "succeeded", 2),
            ],
            silences={(RUN, 1): 1.0},
        ),
    )


def lose_the_run(evidence: Evidence) -> None:
    evidence.acknowledged.append({"id": "run_b", "key": "key-b"})


def succeed_twice(evidence: Evidence) -> None:
    evidence.events.append(event(1, 6, "finished", status="succeeded"))


def damage_the_result(evidence: Evidence) -> None:
    evidence.results[RUN] = Result("changed file adapter_model.safetensors", SHA)


def publish_another_result(evidence: Evidence) -> None:
    evidence.results[RUN] = Result(None, "cd" * 32)


def fall_silent(evidence: Evidence) -> None:
    evidence.observed.silences[RUN, 1] = 2 * SILENCE_SECONDS


def skip_a_number(evidence: Evidence) -> None:
    del evidence.files[RUN][2], evidence.events[2]


def invent_an_event(evidence: Evidence) -> None:
    evidence.events.append(event(1, 6, "metrics", step=9))


def lose_an_event(evidence: Evidence) -> None:
    del evidence.events[5]


def fall_back_an_attempt(evidence: Evidence) -> None:
    evidence.observed.seen.insert(4, Seen(4.5, RUN, "running", 1))


def rise_from_the_dead(evidence: Evidence) -> None:
    evidence.observed.seen.append(Seen(6.0, RUN, "running", 2))


def change_the_dataset(evidence: Evidence) -> None:
    evidence.dataset_hashes[DATASET] = "cd" * 32


def lose_the_dataset(evidence: Evidence) -> None:
    evidence.datasets.clear()
    evidence.folders["datasets"].clear()


def leave_an_orphan(evidence: Evidence) -> None:
    evidence.folders["runs"].add("run_z")


def lose_a_file(evidence: Evidence) -> None:
    evidence.datasets.append({"id": "ds_b", "sha256": SHA, "deleted_at": None})


def make_two_runs_of_one_key(evidence: Evidence) -> None:
    evidence.runs.append(evidence.runs[0] | {"id": "run_b", "status": "queued"})
    evidence.files["run_b"] = []
    evidence.results["run_b"] = Result("no manifest", None)


def answer_one_key_twice(evidence: Evidence) -> None:
    evidence.runs.append(evidence.runs[0] | {"id": "run_b", "status": "queued", "spec": {}})
    evidence.acknowledged.append({"id": "run_b", "key": KEY})
    evidence.files["run_b"] = []
    evidence.results["run_b"] = Result("no manifest", None)


def children(*places: tuple[str, str]) -> frozenset[Child]:
    return frozenset(
        Child(pid=number, started=1, device=device, run_id=run_id, attempt=1)
        for number, (device, run_id) in enumerate(places)
    )


def share_a_device(evidence: Evidence) -> None:
    evidence.observed.together.add(children(("device-1", "run_a"), ("device-1", "run_b")))


def share_a_run(evidence: Evidence) -> None:
    evidence.observed.together.add(children(("device-1", "run_a"), ("device-2", "run_a")))


def repeat_a_step(evidence: Evidence) -> None:
    evidence.events[3]["payload"]["step"] = 1
    evidence.files[RUN] = evidence.events


def go_on_from_nowhere(evidence: Evidence) -> None:
    evidence.events[6]["payload"]["resumed_from_step"] = 7
    evidence.files[RUN] = evidence.events


def lose_a_metric(evidence: Evidence) -> None:
    del evidence.metrics[0]


def lose_what_a_lost_worker_had_yet_to_tell(evidence: Evidence) -> None:
    """Step 2: saved, and still in the pipe when the worker died."""
    evidence.events = [
        one
        for one in evidence.events
        if (one["attempt"], one["payload"]["type"], one["payload"].get("step"))
        not in ((1, "metrics", 2), (1, "checkpoint", 2))
    ]
    for seq, one in enumerate(evidence.events[:3], 1):
        one["seq"] = seq
    evidence.files[RUN] = evidence.events
    evidence.metrics = [row for row in evidence.metrics if row["step"] != 2]


def lose_a_metric_where_the_worker_lived(evidence: Evidence) -> None:
    lose_what_a_lost_worker_had_yet_to_tell(evidence)
    evidence.events.insert(3, event(1, 4, "finished", status="preempted"))


def leave_a_file(evidence: Evidence) -> None:
    evidence.temporary.append("runs/run_a/checkpoints/step-2.x.tmp")


def leave_a_process(evidence: Evidence) -> None:
    evidence.strangers.append("python -m trainer_service.child")


def leave_files_open(evidence: Evidence) -> None:
    evidence.files_grown.append("gateway: 20 -> 90")


def break_the_database(evidence: Evidence) -> None:
    evidence.integrity.append("row 3 missing from index")


def show_a_secret(evidence: Evidence) -> None:
    evidence.shown_secrets.append("gateway.log shows gp-secre…")


def crash(evidence: Evidence) -> None:
    evidence.tracebacks.append("gateway.log: Traceback")


def end_a_stream_twice(evidence: Evidence) -> None:
    evidence.streams.append({"of": RUN, "ends": ["error", "done"]})


def never_end_a_stream(evidence: Evidence) -> None:
    evidence.streams.append({"of": RUN, "ends": []})


BREAKS: dict[str, list[Callable[[Evidence], None]]] = {
    "i1": [lose_the_run],
    "i2": [succeed_twice, damage_the_result, publish_another_result],
    "i3": [fall_silent],
    "i4": [
        skip_a_number,
        invent_an_event,
        lose_an_event,
        fall_back_an_attempt,
        rise_from_the_dead,
    ],
    "i5": [change_the_dataset, lose_the_dataset],
    "i6": [leave_an_orphan, lose_a_file],
    "i7": [make_two_runs_of_one_key, answer_one_key_twice],
    "i8": [share_a_device, share_a_run],
    "i9": [repeat_a_step, go_on_from_nowhere, lose_a_metric, lose_a_metric_where_the_worker_lived],
    "i10": [leave_a_file, leave_a_process, leave_files_open, break_the_database],
    "i11": [show_a_secret, crash],
    "i12": [end_a_stream_twice, never_end_a_stream],
}


def test_a_sound_run_gives_no_cause_for_complaint() -> None:
    assert complaints(sound()) == []


def test_the_last_steps_of_a_lost_worker_may_be_missing() -> None:
    evidence = sound()
    lose_what_a_lost_worker_had_yet_to_tell(evidence)
    assert complaints(evidence) == []


def test_each_invariant_is_tried() -> None:
    assert list(BREAKS) == [invariant.__name__.partition("_")[0] for invariant in INVARIANTS]


@pytest.mark.parametrize(
    ("name", "break_it"),
    [(name, break_it) for name, breaks in BREAKS.items() for break_it in breaks],
)
def test_what_is_broken_is_found(name: str, break_it: Callable[[Evidence], None]) -> None:
    evidence = sound()
    break_it(evidence)
    assert f"{name}_" in "\n".join(complaints(evidence))
