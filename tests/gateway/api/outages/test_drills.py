"""A drill makes a route's targets fail, for a while and for that route alone."""

import httpx
import pytest

from gateway import speaking
from tests.gateway.api.live import Live, chat
from tests.gateway.api.outages.route import heard
from tests.gateway.dying_upstream import DyingUpstream
from tests.gateway.parts import until_true


@pytest.mark.parametrize("fault", ["429", "500", "stall", "cut"])
def test_a_drill_shows_who_steps_in(
    live: Live, upstream: DyingUpstream, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking, "STALL_SECONDS", 0.2)
    drill = live.http.post("/api/routes/best/drill", json={"fault": fault, "seconds": 600})
    assert drill.json()["drill"]["fault"] == fault
    found = heard(live)
    assert (found.text, found.ends) == (upstream.text, ["stop"])
    # By that experiments know that it was no failure of the target's own.
    (row,) = live.http.get("/api/requests").json()["data"]
    assert row["fallback_reason"] == f"drill_{fault}"
    answer = chat(live, "best")
    assert answer.headers["x-genplat-served-by"] == "small"
    assert answer.headers["x-genplat-fallback-reason"] == f"drill_{fault}"
    # Other routes over the same target do not suffer.
    assert live.services.breakers.of("upstream/service").state == "closed"
    assert live.http.delete("/api/routes/best/drill").json()["drill"] is None
    assert chat(live, "best").headers["x-genplat-served-by"] == "upstream/service"


def test_a_drill_ends_by_itself_and_is_the_owners(live: Live) -> None:
    wrong = live.http.post("/api/routes/best/drill", json={"fault": "fire"})
    assert wrong.status_code == 422 and "fault" in wrong.text
    assert live.http.post("/api/routes/none/drill", json={"fault": "cut"}).status_code == 404
    live.http.post("/api/routes/best/drill", json={"fault": "500", "seconds": 1})
    with httpx.Client() as stranger:
        url = f"{live.url}/api/routes/best/drill"
        assert stranger.post(url, json={"fault": "cut"}).status_code == 401
    until_true(lambda: live.http.get("/api/routes/best").json()["drill"] is None)
