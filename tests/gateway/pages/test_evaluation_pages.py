"""Evaluations on their pages: made by a form, watched, looked at, removed."""

from collections.abc import Iterator

import pytest

from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.evaluations.asked import ended, says, upload, word_rows


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.says = says
        live.deploy("good")
        live.deploy("plain")
        yield live


def test_an_evaluation_from_the_form_to_its_end(live: Live) -> None:
    upload(live.http, word_rows(20))
    dataset = upload(live.http, word_rows(24))
    form = live.http.get("/evaluations/new", params={"candidate": "good"}).text
    assert 'value="good" checked' in form and f'value="{dataset["id"]}"' in form
    sent = {
        "dataset_id": dataset["id"],
        "candidates": ["good"],
        "baseline": "plain",
        "limit": "20",
        "max_tokens": "64",
        "temperature": "0",
        "task": "auto",
    }
    made = live.http.post("/evaluations", data=sent)
    assert made.status_code == 303, made.text
    path = made.headers["location"]
    found = ended(live, path.rpartition("/")[2])
    # Who is compared with need not be ticked.
    assert found["spec"]["candidates"] == ["plain", "good"] and found["examples"] == 20
    page = live.http.get(path).text
    assert "ROUGE-L" in page and ", better" in page and "gamma follows" in page
    assert "Over time" not in page
    progress = live.http.get(f"{path}/progress")
    assert progress.headers["hx-refresh"] == "true" and "hx-get" not in progress.text
    best = live.http.get(path, params={"order": "gains", "metric": "bleu", "tag": "odd"})
    assert best.status_code == 200 and "Example 2 " in best.text
    again = live.http.post("/evaluations", data=sent).headers["location"]
    ended(live, again.rpartition("/")[2])
    assert "Over time" in live.http.get(again).text
    assert live.http.get("/evaluations").text.count(">succeeded<") == 2
    assert live.http.post(f"{again}/delete").headers["location"] == "/evaluations"
    assert live.http.get(again).status_code == 404


def test_what_is_wrong_stands_beside_its_field(live: Live) -> None:
    sent = {"dataset_id": "", "candidates": [], "limit": "many", "max_tokens": "64"}
    answer = live.http.post("/evaluations", data=sent)
    assert answer.status_code == 422
    assert 'id="limit-error"' in answer.text and 'id="candidates-error"' in answer.text
    dataset = upload(live.http, word_rows(2))
    sent = {"dataset_id": dataset["id"], "candidates": ["nobody"], "max_tokens": "64"}
    answer = live.http.post("/evaluations", data=sent)
    assert "there is no model" in answer.text and 'id="candidates-error"' in answer.text


def test_one_that_runs_is_watched_and_cancelled(live: Live) -> None:
    live.inference.seconds_a_word = 0.2
    dataset = upload(live.http, word_rows(40))
    sent = {"dataset_id": dataset["id"], "candidates": ["good"], "max_tokens": "64"}
    path = live.http.post("/evaluations", data=sent).headers["location"]
    assert f'hx-get="{path}/progress"' in live.http.get(path).text
    refused = live.http.post(f"{path}/delete")
    assert "Cancel it before" in refused.text
    assert live.http.post(f"{path}/cancel").status_code == 303
    assert "Ask the rest" in live.http.get(path).text
    assert live.http.post(f"{path}/else").headers["location"] == path
