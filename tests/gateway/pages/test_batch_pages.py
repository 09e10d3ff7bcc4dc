"""Batches in a browser: started with a file, watched, cancelled, downloaded."""

import json
from collections.abc import Iterator

import httpx
import pytest

from gateway import keys
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.conftest import LOGIN_TOKEN
from tests.gateway.parts import until_true

URL = "/v1/chat/completions"


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.echoes, live.inference.refused_word = True, "refused"
        chat(live, BUNDLED_MODEL).raise_for_status()
        yield live


@pytest.fixture
def person(live: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url, headers={"Sec-Fetch-Site": "same-origin"}) as client:
        client.get("/login", params={"token": LOGIN_TOKEN})
        yield client


def lines(*asked: str) -> bytes:
    items = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": URL,
            "body": {"model": BUNDLED_MODEL, "messages": [{"role": "user", "content": said}]},
        }
        for number, said in enumerate(asked)
    ]
    return "".join(json.dumps(item) + "\n" for item in items).encode()


def begin(person: httpx.Client, content: bytes) -> str:
    answer = person.post(
        "/batches", data={"endpoint": URL}, files={"file": ("mine.jsonl", content)}
    )
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def test_a_batch_from_its_file_to_its_answers(person: httpx.Client) -> None:
    place = begin(person, lines("one", "refused", "three"))
    until_true(lambda: "Download answers" in person.get(place).text)
    page = person.get(place).text
    assert "3 of 3" in page and "badge-completed" in page and "Cancel batch" not in page
    assert f'hx-get="{place}' not in page
    said = person.get(f"{place}/output")
    assert said.headers["content-type"] == "application/octet-stream"
    assert "attachment" in said.headers["content-disposition"]
    assert [json.loads(line)["custom_id"] for line in said.text.splitlines()] == ["0", "2"]
    errors = person.get(f"{place}/errors").text.splitlines()
    assert [json.loads(line)["custom_id"] for line in errors] == ["1"]
    assert place in person.get("/batches").text


def test_a_file_that_is_wrong_is_told_of_by_line(person: httpx.Client) -> None:
    place = begin(person, lines("one") + b"<script>\n")
    until_true(lambda: "badge-failed" in person.get(place).text)
    assert "Line 2: This line is not a JSON object." in person.get(place).text
    assert person.get(f"{place}/output").status_code == 404


def test_no_file_is_told_of_beside_the_field(live: Live, person: httpx.Client) -> None:
    answer = person.post("/batches", data={"endpoint": URL}, files={"other": ("a", b"x")})
    assert answer.status_code == 422 and "Send exactly one file" in answer.text
    answer = person.post("/batches", data={"endpoint": "/x"}, files={"file": ("a", b"x")})
    assert answer.status_code == 422 and "endpoint must be one of" in answer.text
    assert live.http.get("/v1/files", params={"purpose": "batch"}).json()["data"] == []


def test_a_batch_is_watched_and_cancelled(live: Live, person: httpx.Client) -> None:
    live.inference.seconds_a_word = 0.1
    place = begin(person, lines(*["x"] * 60))
    until_true(lambda: "of 60" in person.get(f"{place}/standing").text)
    part = person.get(f"{place}/standing").text
    assert part.startswith("<section") and f'hx-get="{place}/standing"' in part
    assert person.post(f"{place}/cancel").status_code == 303
    until_true(lambda: "badge-cancelled" in person.get(place).text)


def test_a_batch_of_others_does_not_exist(live: Live, person: httpx.Client) -> None:
    place = begin(person, lines("one"))
    _, secret = keys.create_key(database=live.services.database, owner="other", name="k")
    with httpx.Client(base_url=live.url, headers={"Authorization": f"Bearer {secret}"}) as other:
        for path in (place, f"{place}/standing", f"{place}/output"):
            assert other.get(path).status_code == 404
        assert other.post(f"{place}/cancel").status_code == 404
