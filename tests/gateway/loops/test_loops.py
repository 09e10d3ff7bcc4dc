"""From new data to a promoted model by one request, over a live gateway."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway import keys
from gateway.loops.spec import LoopSpec, evaluation_spec, run_spec
from gateway.loops.worker import _look, _MovedOn, _Note, _route
from gateway.settings import GatewaySettings
from gateway.tables import Loop, Run
from shared.errors import Conflict
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.parts import OWNER, asynchronous, gateway_services, until_true
from tests.gateway.synthesis.asked import upload
from tests.gateway.synthesis.writing import seed_rows

PATH = "/api/loops"


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        chat(live, BUNDLED_MODEL).raise_for_status()
        live.deploy("old")
        made = {
            "name": "support",
            "targets": [{"deployment": "old", "weight": 1}],
            "balance": "fastest",
            "shadow": "old",
        }
        assert live.http.post("/api/routes", json=made).status_code == 201
        yield live


def evaluated(live: Live, dataset_id: str) -> str:
    """An evaluation to repeat."""
    spec = {"dataset_id": dataset_id, "candidates": ["old"], "metrics": ["exact_match"]}
    made = live.http.post("/api/evaluations", json=spec).json()
    path = f"/api/evaluations/{made['id']}"
    until_true(lambda: live.http.get(path).json()["status"] == "succeeded")
    return str(made["id"])


def begin(live: Live, rule: str, **changes: Any) -> str:
    data = upload(live, "birds", seed_rows())
    spec = {
        "dataset_id": data,
        "like_run": live.succeeded_run().id,
        "like_evaluation": evaluated(live, data),
        "baseline": "old",
        "rules": [rule],
        "deployment": "new",
        "route": "support",
        "weight": 30,
    }
    made = live.http.post(PATH, json=spec | changes)
    assert made.status_code == 202, made.text
    return str(made.json()["id"])


def seen(live: Live, loop_id: str) -> dict[str, Any]:
    found: dict[str, Any] = live.http.get(f"{PATH}/{loop_id}").json()
    return found


def trained(live: Live, loop_id: str, status: str = "succeeded") -> str:
    """The run that the loop began comes to its end, as a worker would bring it there."""
    until_true(lambda: seen(live, loop_id)["run_id"])
    run_id = str(seen(live, loop_id)["run_id"])
    with live.services.database.write() as session:
        run = session.get_one(Run, run_id)
        run.status = status
        run.fine_tuned_model = f"ft:{BUNDLED_MODEL}:genplat::{run_id[-8:]}"
        session.add(run)
    return run_id


def ended(live: Live, loop_id: str) -> dict[str, Any]:
    until_true(lambda: seen(live, loop_id)["status"] != "running")
    return seen(live, loop_id)


def test_all_stages_to_a_share_of_the_route(live: Live) -> None:
    loop_id = begin(live, "exact_match >= 0")
    run_id = trained(live, loop_id)
    found = ended(live, loop_id)
    assert (found["status"], found["stage"]) == ("succeeded", "done"), found
    assert [one["holds"] for one in found["verdicts"]] == [True]
    evaluation = live.http.get(f"/api/evaluations/{found['evaluation_id']}").json()
    assert [one["name"] for one in evaluation["candidates"]] == ["old", run_id]
    deployment = live.http.get("/api/deployments/new").json()
    assert (deployment["run_id"], deployment["state"]) == (run_id, "ready")
    route = live.http.get("/api/routes/support").json()
    assert route["targets"] == [
        {"deployment": "old", "weight": 70},
        {"deployment": "new", "weight": 30},
    ]
    # What else is said of the route stays.
    assert (route["balance"], route["shadow"]["deployment"]) == ("fastest", "old")
    # It was trained on what it was asked, and nobody should believe otherwise.
    assert any("trained on" in one for one in found["warnings"]), found["warnings"]
    # One run, one evaluation beside the one that was there.
    assert len(live.http.get("/api/evaluations").json()["data"]) == 2
    assert live.http.delete(f"{PATH}/{loop_id}").status_code == 204


def test_a_closed_gate_deploys_nothing(live: Live) -> None:
    loop_id = begin(live, "exact_match >= 0.9")
    trained(live, loop_id)
    found = ended(live, loop_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "gate_closed")
    assert live.http.get("/api/deployments/new").status_code == 404


def test_a_run_that_fails_ends_it(live: Live) -> None:
    loop_id = begin(live, "exact_match >= 0")
    trained(live, loop_id, "failed")
    assert ended(live, loop_id)["error"]["code"] == "run_failed"


def test_cancelled_no_further_stage_begins_and_nobody_else_sees_it(live: Live) -> None:
    loop_id = begin(live, "exact_match >= 0")
    until_true(lambda: seen(live, loop_id)["run_id"])
    _, secret = keys.create_key(database=live.services.database, owner="other", name="x")
    theirs = {"Authorization": f"Bearer {secret}"}
    for method, path in (("GET", ""), ("POST", "/cancel"), ("DELETE", "")):
        answer = live.http.request(method, f"{PATH}/{loop_id}{path}", headers=theirs)
        assert answer.status_code == 404
    assert live.http.delete(f"{PATH}/{loop_id}").status_code == 409
    assert live.http.post(f"{PATH}/{loop_id}/cancel").json()["status"] == "cancelled"
    trained(live, loop_id)
    assert seen(live, loop_id)["evaluation_id"] is None
    assert [one["id"] for one in live.http.get(PATH).json()["data"]] == [loop_id]


REFUSED: list[tuple[dict[str, Any], str | None]] = [
    ({"dataset_id": "ds_none"}, "dataset_id"),
    ({"like_run": "run_none"}, "like_run"),
    ({"like_evaluation": "ev_none"}, "like_evaluation"),
    ({"baseline": "nobody"}, "baseline"),
    ({"rules": ["quality > high"]}, None),
    ({"rules": ["exact_match >= 0", "rougeL >= base"]}, "rules"),
    ({"rules": ["judge_similarity >= 4"]}, "rules"),
    ({"deployment": "old"}, "deployment"),
    ({"deployment": "support"}, "deployment"),
    ({"route": "old"}, "route"),
    ({"route": "new"}, "route"),
    ({"weight": 0}, "weight"),
]


def test_what_cannot_be_done_is_refused_before_anything_is_trained(live: Live) -> None:
    data = upload(live, "birds", seed_rows())
    spec = {
        "dataset_id": data,
        "like_run": live.succeeded_run().id,
        "like_evaluation": evaluated(live, data),
        "baseline": "old",
        "rules": ["exact_match >= 0"],
        "deployment": "new",
    }
    for changes, param in REFUSED:
        answer = live.http.post(PATH, json=spec | changes)
        assert answer.status_code in (409, 422), (changes, answer.text)
        if param:
            assert answer.json()["error"]["param"] == param, changes
    assert live.http.get(PATH).json()["data"] == []


def test_a_name_that_another_loop_will_give_is_taken(live: Live) -> None:
    first = begin(live, "exact_match >= 0")
    spec = seen(live, first)["spec"]
    taken = live.http.post(PATH, json=spec)
    assert (taken.status_code, taken.json()["error"]["param"]) == (409, "deployment")
    live.http.post(f"{PATH}/{first}/cancel")
    assert live.http.post(PATH, json=spec).status_code == 202


@asynchronous
async def test_of_two_gateways_one_makes_what_a_stage_needs(settings: GatewaySettings) -> None:
    async with gateway_services(settings) as services:
        with services.database.write() as session:
            loop = Loop(owner=OWNER, spec={})
            session.add(loop)
        with services.database.write() as session:
            _Note(loop, "run_id").attach(session, "run_1")
        with pytest.raises(_MovedOn), services.database.write() as session:
            _Note(loop, "run_id").attach(session, "run_2")
        with services.database.read() as session:
            assert session.get_one(Loop, loop.id).run_id == "run_1"


@asynchronous
async def test_what_fails_because_another_gateway_has_done_it_is_no_failure(
    settings: GatewaySettings,
) -> None:
    spec = {
        "dataset_id": "ds_test",
        "like_run": "run_0",
        "like_evaluation": "ev_0",
        "rules": ["rougeL >= base"],
        "deployment": "new",
    }
    async with gateway_services(settings) as services:
        with services.database.write() as session:
            late = Loop(owner=OWNER, spec=spec, stage="deploying", run_id="run_1")
            session.add(late)
        with services.database.write() as session:
            session.get_one(Loop, late.id).deployment = "new"
        # It would have to make the deployment, and cannot.
        await _look(services, late)
        with services.database.read() as session:
            found = session.get_one(Loop, late.id)
        assert (found.status, found.error_code) == ("running", None)
        # Of one that is as it was seen, it is one.
        with services.database.write() as session:
            session.get_one(Loop, late.id).deployment = None
        await _look(services, late)
        with services.database.read() as session:
            assert session.get_one(Loop, late.id).status == "failed"


def test_a_route_that_is_made_by_two_at_once_is_made(live: Live) -> None:
    live.deploy("new")
    spec = LoopSpec.model_validate(
        {
            "dataset_id": "ds_test",
            "like_run": "run_0",
            "like_evaluation": "ev_0",
            "rules": ["rougeL >= base"],
            "deployment": "new",
        }
    )
    loop = Loop(owner=OWNER, spec={})
    for _ in range(2):
        _route(live.services, loop, spec, "fresh")
    targets = live.http.get("/api/routes/fresh").json()["targets"]
    assert targets == [{"deployment": "new", "weight": 100}]
    with pytest.raises(Conflict):
        _route(live.services, loop, spec, "old")


def test_one_that_cannot_be_gone_on_with_keeps_no_other_waiting(live: Live) -> None:
    with live.services.database.write() as session:
        broken = Loop(owner=OWNER, spec={"deployment": "x"})
        session.add(broken)
    live.services.loop_wanted.set()
    found = ended(live, broken.id)
    assert (found["status"], found["error"]["code"]) == ("failed", "cannot_be_repeated")


def test_specs_are_repeated_for_other_data_and_candidates() -> None:
    earlier = {"base_model": "b", "datasets": [{"id": "x"}], "lora_r": 4, "continue_from": "run_0"}
    assert run_spec(earlier, "ds_2") == {"base_model": "b", "lora_r": 4, "dataset_id": "ds_2"}
    # What a run held out is asked again, and not what was learned.
    before = {"held_out_of": "run_0", "candidates": ["a"], "metrics": "auto", "name": "n"}
    assert evaluation_spec(before, baseline="a", run_id="run_1") == {
        "held_out_of": "run_0",
        "metrics": "auto",
        "candidates": ["a", "run_1"],
        "baseline": "a",
    }
