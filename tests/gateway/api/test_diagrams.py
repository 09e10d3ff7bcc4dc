"""Diagrams over HTTP, as images and as JSON."""

from collections.abc import Iterator

import pytest

from gateway import keys
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.fake_inference import BROKEN, SOURCE


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def test_one_request_one_image(live: Live) -> None:
    body = {"scenario": "Alice greets Bob.", "model": BUNDLED_MODEL}
    png = live.http.post("/api/diagrams", json=body, headers={"Accept": "image/png"})
    assert (png.headers["content-type"], png.content) == ("image/png", b"\x89PNG fake")
    assert png.headers["x-genplat-served-by"] == BUNDLED_MODEL
    diagram_id = png.headers["x-genplat-diagram-id"]
    svg = live.http.post("/api/diagrams", json=body, headers={"Accept": "image/*"})
    assert svg.headers["content-type"] == "image/svg+xml"
    shown = live.http.get(f"/api/diagrams/{diagram_id}").json()
    assert (shown["source"], shown["rendered"], shown["attempts"]) == (SOURCE, True, 1)
    source = live.http.get(f"/api/diagrams/{diagram_id}.puml")
    assert source.text == SOURCE and source.headers["content-type"].startswith("text/plain")
    assert live.http.get(f"/api/diagrams/{diagram_id}.html").status_code == 404
    assert len(live.http.get("/api/diagrams").json()["data"]) == 2


def test_a_diagram_as_json_is_made_once(live: Live) -> None:
    body = {"source": SOURCE, "format": "png"}
    headers = {"Idempotency-Key": "once"}
    first = live.http.post("/api/diagrams", json=body, headers=headers)
    assert first.status_code == 201
    assert first.json()["svg_url"] == f"/api/diagrams/{first.json()['id']}.svg"
    again = live.http.post("/api/diagrams", json=body, headers=headers)
    assert again.json() == first.json()
    assert len(live.inference.asked) == 1


def test_a_diagram_that_did_not_render(live: Live) -> None:
    live.inference.drawing = BROKEN
    body = {"scenario": "Nonsense.", "model": BUNDLED_MODEL}
    shown = live.http.post("/api/diagrams", json=body).json()
    assert (shown["rendered"], shown["svg_url"]) == (False, None)
    assert shown["error"] == {"line": 2, "message": "Syntax Error?"}
    image = live.http.post("/api/diagrams", json=body, headers={"Accept": "image/svg+xml"})
    assert image.status_code == 422
    assert "line 2: Syntax Error?" in image.json()["error"]["message"]
    assert live.http.get(f"/api/diagrams/{shown['id']}.svg").status_code == 404
    assert live.http.get(f"/api/diagrams/{shown['id']}.puml").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scenario": "x"},
        {"scenario": "x", "source": "y", "model": "z"},
        {"source": "x" * 50_001},
        {"source": "x", "max_attempts": 9},
        {"source": "x", "format": "html"},
        {"source": "x", "url": "http://127.0.0.1"},
    ],
)
def test_a_wrong_diagram_is_refused(live: Live, body: dict[str, object]) -> None:
    assert live.http.post("/api/diagrams", json=body).status_code == 422


def test_diagrams_of_others_do_not_exist(live: Live) -> None:
    made = live.http.post("/api/diagrams", json={"source": SOURCE}).json()
    _, secret = keys.create_key(database=live.services.database, owner="other", name="theirs")
    for path in (f"/api/diagrams/{made['id']}", made["svg_url"], made["png_url"]):
        theirs = live.http.get(path, headers={"Authorization": f"Bearer {secret}"})
        assert theirs.status_code == 404
