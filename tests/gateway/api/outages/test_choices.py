"""Whom a route asks, and whom next."""

import httpx

from tests.gateway.api.live import CHAT, Live, chat
from tests.gateway.dying_upstream import DyingUpstream


def test_a_route_knows_declared_upstreams_alone(live: Live) -> None:
    def make(**rules: object) -> httpx.Response:
        return live.http.post("/api/routes", json={"name": "other"} | rules)

    answer = make(targets=[{"upstream": "elsewhere"}])
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "targets.0.upstream"
    for wrong in ({"upstream": "service", "deployment": "small"}, {"weight": 1}):
        assert make(targets=[wrong]).status_code == 422
    made = make(targets=[{"deployment": "small"}], fallbacks=["upstream/service"])
    assert made.status_code == 201
    assert made.json()["fallbacks"] == [{"upstream": "service"}]
    # It cannot go on with what another began, but it can be asked first.
    live.inference.dead = {"small"}
    assert chat(live, "other").headers["x-genplat-served-by"] == "upstream/service"


def test_a_user_stays_with_a_target_and_a_conversation_too(live: Live) -> None:
    body = {
        "name": "sticky",
        "targets": [{"upstream": "service"}, {"deployment": "small"}],
        "sticky": "user",
    }
    assert live.http.post("/api/routes", json=body).json()["sticky"] == "user"

    def served(**changes: object) -> str:
        return chat(live, "sticky", **changes).headers["x-genplat-served-by"]

    users = {user: served(user=user) for user in ("ann", "bob", "cid", "dan", "eve", "fay")}
    assert {user: served(user=user) for user in users} == users
    assert len(set(users.values())) == 2
    del body["name"]
    live.http.put("/api/routes/sticky", json=body | {"sticky": "conversation"})
    first = served(user="ann")
    turns = [*CHAT["messages"], {"role": "assistant", "content": "a"}]
    turns.append({"role": "user", "content": "More."})
    assert served(user="bob", messages=turns) == first


def test_who_says_nothing_for_too_long_is_left(live: Live, upstream: DyingUpstream) -> None:
    rules = {
        "targets": [{"upstream": "service", "timeout_seconds": 0.2}],
        "fallbacks": [{"deployment": "small", "timeout_seconds": 0.001}],
    }
    assert live.http.put("/api/routes/best", json=rules).json()["targets"] == [
        {"upstream": "service", "weight": 1.0, "timeout_seconds": 0.2}
    ]
    upstream.slow = 1.0
    answer = chat(live, "best")
    # The last one has as long as it takes.
    assert answer.headers["x-genplat-served-by"] == "small"
    assert answer.headers["x-genplat-fallback-reason"] == "target_timeout"


def test_the_other_targets_are_better_than_nobody(live: Live, upstream: DyingUpstream) -> None:
    rules = {"targets": [{"upstream": "service", "weight": 999_999}, {"deployment": "small"}]}
    assert live.http.put("/api/routes/best", json=rules).status_code == 200
    upstream.status = 500
    assert chat(live, "best").headers["x-genplat-served-by"] == "small"


def test_the_fastest_is_asked_more(live: Live, upstream: DyingUpstream) -> None:
    targets = [{"upstream": "service"}, {"deployment": "small"}]
    both = {"targets": targets, "balance": "fastest", "sticky": "user"}
    refused = live.http.put("/api/routes/best", json=both)
    assert refused.status_code == 422
    assert "balance" in refused.json()["error"]["message"]
    rules = {"targets": targets, "balance": "fastest"}
    assert live.http.put("/api/routes/best", json=rules).json()["balance"] == "fastest"
    upstream.slow = 0.3
    served = [chat(live, "best").headers["x-genplat-served-by"] for _ in range(12)]
    # Of two targets both are drawn: the slow one is asked until its first answer came.
    assert served.count("upstream/service") <= 2
