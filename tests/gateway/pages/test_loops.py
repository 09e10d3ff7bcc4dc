"""Retrain and promote from a page: filled in so that one click is enough."""

import re
from collections.abc import Iterator

import httpx
import pytest

from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.conftest import LOGIN_TOKEN
from tests.gateway.loops.test_loops import ended, evaluated, trained
from tests.gateway.synthesis.asked import upload
from tests.gateway.synthesis.writing import seed_rows


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.deploy("old")
        chat(live, "old").raise_for_status()
        yield live


@pytest.fixture
def browser(live: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url, timeout=20) as client:
        client.get("/login", params={"token": LOGIN_TOKEN})
        client.headers["Sec-Fetch-Site"] = "same-origin"
        yield client


def test_the_form_as_it_comes_begins_a_loop(live: Live, browser: httpx.Client) -> None:
    data = upload(live, "Bird songs", seed_rows())
    run, evaluation = live.succeeded_run().id, evaluated(live, data)
    page = browser.get(f"/loops/new?dataset_id={data}").text
    chosen = dict(re.findall(r'<select id="(\w+)".*?value="([^"]*)" selected', page, re.DOTALL))
    assert chosen["like_run"] == run and chosen["like_evaluation"] == evaluation
    [rules] = re.findall(r'<textarea id="rules"[^>]*>(.*?)</textarea>', page)
    assert rules == "exact_match &gt;= base"
    form = {
        **chosen,
        "baseline": "old",
        "rules": "exact_match >= 0",
        "deployment": "bird-songs-1",
        "weight": "100",
    }
    assert 'value="bird-songs-1"' in page
    wrong = browser.post("/loops", data=form | {"rules": "best"})
    assert wrong.status_code == 422 and "is no rule" in wrong.text
    taken = browser.post("/loops", data=form | {"deployment": "old"})
    assert taken.status_code == 422 and 'id="deployment-error"' in taken.text
    path = browser.post("/loops", data=form).headers["location"]
    loop_id = path.rpartition("/")[2]
    assert f'hx-get="{path}/progress"' in browser.get(path).text
    trained(live, loop_id)
    assert ended(live, loop_id)["status"] == "succeeded"
    shown = browser.get(f"{path}/progress").text
    assert "hx-get" not in shown and "holds" in shown
    assert path in browser.get("/loops").text
    assert browser.post(f"{path}/cancel").status_code == 409
    assert browser.post(f"{path}/delete").headers["location"] == "/loops"
