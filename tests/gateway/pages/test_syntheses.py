"""The pages of synthetic data, without JavaScript."""

import re
from collections.abc import Iterator

import httpx
import pytest

from gateway.settings import GatewaySettings
from gateway.synthesis.pairs import Pair
from gateway.tables import Evaluation
from tests.gateway.api.live import Live
from tests.gateway.conftest import LOGIN_TOKEN
from tests.gateway.parts import until_true
from tests.gateway.synthesis.asked import (
    after,
    evaluation,
    gateway_with_writer,
    rows,
    upload,
)
from tests.gateway.synthesis.writing import rows_text, seed_rows


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with gateway_with_writer(settings) as live:
        yield live


@pytest.fixture
def browser(live: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url, timeout=20) as client:
        client.get("/login", params={"token": LOGIN_TOKEN})
        client.headers["Sec-Fetch-Site"] = "same-origin"
        yield client


def generated(live: Live, browser: httpx.Client, **form: str) -> str:
    """The path of a synthesis that waits for its review."""
    form = {"model": "writer", "count": "4", "per_request": "2"} | form
    made = browser.post("/syntheses", data=form)
    assert made.status_code == 303, made.text
    path = made.headers["location"]
    after(live, path.rpartition("/")[2])
    return path


def test_from_the_form_over_the_review_to_the_dataset(live: Live, browser: httpx.Client) -> None:
    seed = upload(live, "birds", seed_rows())
    assert f'value="{seed}" selected' in browser.get(f"/syntheses/new?dataset_id={seed}").text
    path = generated(live, browser, dataset_id=seed)
    assert "nobody has looked at" in browser.get(path).text
    first, second, third, _ = (row["number"] for row in rows(live, path[11:], status="kept"))

    where = browser.get(f"{path}/review").headers["location"]
    assert where == f"{path}/rows/{first}"
    shown = browser.get(where).text
    prompt, completion = re.findall(r"<textarea[^>]*>\n?(.*?)</textarea>", shown, re.DOTALL)
    kept = {"action": "save", "prompt": prompt, "completion": completion}
    answer = browser.post(where, data=kept)
    assert answer.headers["location"] == f"{path}/review?after={first}"
    changed = {"action": "save", "prompt": "Another?\r\nYes.", "completion": completion}
    browser.post(f"{path}/rows/{second}", data=changed)
    browser.post(f"{path}/rows/{third}", data={"action": "reject", "back": "kept"})
    found = {row["number"]: row for row in rows(live, path[11:], status="kept")}
    assert [found[n]["status"] for n in (first, second, third)] == [
        "accepted",
        "edited",
        "rejected",
    ]
    assert found[second]["prompt"] == "Another?\nYes."
    assert "As the model wrote it" in browser.get(f"{path}/rows/{second}").text

    assert browser.post(f"{path}/accept-all").status_code == 303
    # Where none is left to look at, the review ends.
    assert browser.get(f"{path}/review").headers["location"] == path
    made = browser.post(f"{path}/finish", data={"include_seed": "true"})
    assert made.status_code == 303
    page = browser.get(made.headers["location"]).text
    assert "Derived from" in page and "3 synthetic rows</a> by writer" in page
    assert live.http.get("/api/datasets").json()["data"][0]["rows"] == 8 + 3
    assert "The new dataset" in browser.get(path).text


def test_an_empty_edit_and_a_wrong_form_come_back_with_what_was_typed(
    live: Live, browser: httpx.Client
) -> None:
    seed = upload(live, "birds", seed_rows())
    path = generated(live, browser, dataset_id=seed)
    number = rows(live, path[11:], status="kept")[0]["number"]
    wrong = {"action": "save", "prompt": "typed &lt;", "completion": " "}
    answer = browser.post(f"{path}/rows/{number}", data=wrong)
    assert answer.status_code == 422
    assert "must not be empty" in answer.text and "typed &amp;lt;" in answer.text
    long = {"action": "save", "prompt": "x" * 201_000, "completion": "y"}
    answer = browser.post(f"{path}/rows/{number}", data=long)
    assert answer.status_code == 422 and "at most 200000" in answer.text
    for where in (f"/rows/{10**30}", f"/rows?after={10**30}", f"/review?after={10**30}"):
        assert browser.get(f"{path}{where}").status_code == 422
    answer = browser.post("/syntheses", data={"model": "writer", "count": "many"})
    assert answer.status_code == 422
    assert 'id="count-error"' in answer.text and 'value="many"' in answer.text


def test_aimed_at_an_evaluation_its_metrics_can_be_chosen(
    live: Live, browser: httpx.Client
) -> None:
    found = evaluation(live)
    page = browser.get(f"/syntheses/new?evaluation_id={found}").text
    assert f'value="{found}" selected' in page and 'value="exact_match"' in page
    # Which the form asks for once there is an evaluation.
    assert "Whose failures" not in browser.get("/syntheses/new").text
    asked = {"evaluation_id": found, "metric": "exact_match", "below": "0.4"}
    part = browser.get("/syntheses/failures", params=asked).text
    assert part.startswith("<div") and "Whose failures" in part and 'value="0.4"' in part
    assert '<option value="exact_match" selected>' in part
    gone = browser.get("/syntheses/failures", params={"evaluation_id": "", "metric": "x"}).text
    assert 'id="failures"' in gone and "Whose failures" not in gone
    path = generated(live, browser, evaluation_id=found, candidate="0", below="0.5")
    assert "Kinds of failures" in browser.get(path).text


def test_it_is_the_model_beside_the_baseline_that_shall_learn(
    live: Live, browser: httpx.Client
) -> None:
    found = evaluation(live)
    with live.services.database.write() as session:
        kept = session.get_one(Evaluation, found)
        both = [{"name": name, "model": name, "kind": "deployment"} for name in ("old", "writer")]
        kept.candidates, kept.spec = both, {"candidates": ["old", "writer"], "baseline": "old"}
        session.add(kept)
    for where in (f"new?evaluation_id={found}", f"failures?evaluation_id={found}"):
        assert (
            '<option value="1" selected>writer</option>' in browser.get(f"/syntheses/{where}").text
        )


def test_a_diagram_is_drawn_beside_its_source(live: Live, browser: httpx.Client) -> None:
    def diagram(seed: int) -> Pair:
        return Pair(f"Draw {seed_rows(90)[seed].prompt}", "@startuml\nA -> B\n@enduml")

    live.inference.says = lambda body: rows_text([diagram(body["seed"])])
    seed = upload(live, "pictures", [diagram(n) for n in range(5)])
    path = generated(live, browser, dataset_id=seed, count="1")
    number = rows(live, path[11:], status="kept")[0]["number"]
    image = f"{path}/rows/{number}/diagram.svg"
    assert f'src="{image}"' in browser.get(f"{path}/rows/{number}").text
    answer = browser.get(image)
    assert answer.headers["content-type"] == "image/svg+xml"
    assert (
        "script-src" in answer.headers["content-security-policy"]
        or "default-src 'none'" in (answer.headers["content-security-policy"])
    )
    assert answer.text.startswith("<svg")


def test_what_a_model_writes_is_shown_as_text(live: Live, browser: httpx.Client) -> None:
    evil = "</textarea><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}\u202e"
    live.inference.says = lambda body: rows_text(
        [Pair(f"{evil} {body['seed']} {number}", f"{evil} indeed") for number in range(2)]
    )
    seed = upload(live, evil[:60], [Pair(f"{evil} {n} seed", f"{evil} so") for n in range(5)])
    path = generated(live, browser, dataset_id=seed, near_duplicate="1", count="2")
    number = rows(live, path[11:], status="kept")[0]["number"]
    dropped = rows(live, path[11:], status="dropped")
    pages = ["", "/rows", "/rows?status=dropped", f"/rows/{number}"]
    pages += [f"/rows/{row['number']}" for row in dropped[:3]]
    for where in pages:
        shown = browser.get(path + where).text
        assert "<script>alert" not in shown and "<img src=x" not in shown, where
    shown = browser.get(f"{path}/rows/{number}").text
    assert "&lt;script&gt;alert(1)" in shown and "{{7*7}}" in shown


def test_progress_is_shown_until_it_can_be_reviewed(live: Live, browser: httpx.Client) -> None:
    live.inference.holds_for = 100
    seed = upload(live, "birds", seed_rows())
    made = browser.post("/syntheses", data={"model": "writer", "count": "4", "dataset_id": seed})
    path = made.headers["location"]
    assert f'hx-get="{path}/progress"' in browser.get(path).text
    panel = browser.get(f"{path}/progress")
    assert "HX-Refresh" not in panel.headers and panel.text.startswith('<div id="progress"')
    live.inference.holds_for = 0
    until_true(lambda: "HX-Refresh" in browser.get(f"{path}/progress").headers)
    assert browser.get("/syntheses").text.count(path) == 1
    assert browser.post(f"{path}/cancel").status_code == 303
    assert browser.post(f"{path}/delete").headers["location"] == "/syntheses"
