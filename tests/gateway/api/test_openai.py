"""OpenAI's API through its own unmodified client, against a real server."""

import json
import shutil
import socket
from collections.abc import Iterator

import httpx
import openai
import pytest

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.fake_inference import BROKEN, DRAWN, SOURCE
from tests.gateway.parts import LONG, until_true

MESSAGES = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def test_every_name_that_answers_is_listed(live: Live) -> None:
    run = live.succeeded_run()
    live.deploy("uml", run.id)
    route = {"name": "best", "targets": [{"deployment": "uml"}]}
    assert live.http.post("/api/routes", json=route).status_code == 201
    with live.openai as client:
        listed = {model.id: model.owned_by for model in client.models.list()}
        assert listed == {
            "best": "genplat-route",
            "uml": "genplat-deployment",
            run.fine_tuned_model: "genplat-fine-tuned",
            BUNDLED_MODEL: "genplat-base",
        }
        for name in listed:
            assert client.models.retrieve(name).id == name
            answer = client.chat.completions.create(model=name, messages=MESSAGES)
            assert answer.choices[0].message.content == "Hello there!"
            assert answer.model == name
    # The deployment was loaded once; base and fine-tuned at their first request.
    assert live.inference.loads == {"uml": 1, f"base/{BUNDLED_MODEL}": 1, f"run/{run.id}": 1}


def test_a_streamed_answer(live: Live) -> None:
    with live.openai as client:
        stream = client.chat.completions.create(
            model=BUNDLED_MODEL, messages=MESSAGES, stream=True, temperature=0, max_tokens=5
        )
        words = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(words) == "Hello there!"
    sent = live.inference.asked[-1]
    assert sent == {
        "model": f"base/{BUNDLED_MODEL}",
        "messages": MESSAGES,
        "stream": True,
        "temperature": 0,
        "max_tokens": 5,
    }


def test_a_text_completion(live: Live) -> None:
    with live.openai as client:
        answer = client.completions.create(model=BUNDLED_MODEL, prompt="Once")
    assert answer.choices[0].text == "Hello there!"


def test_a_reader_who_leaves_ends_the_work(live: Live) -> None:
    live.inference.seconds_a_word = 0.1
    live.inference.words = ["word "] * 600
    with live.openai as client:
        stream = client.chat.completions.create(model=BUNDLED_MODEL, messages=MESSAGES, stream=True)
        next(iter(stream))
        stream.close()
        until_true(lambda: live.inference.left_early == 1)


def test_who_waits_for_a_whole_answer_and_leaves_ends_the_work(live: Live) -> None:
    live.inference.seconds_a_word = 0.1
    live.inference.words = ["word "] * 600
    body = json.dumps({"model": BUNDLED_MODEL, "messages": MESSAGES}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {ADMIN_KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    port = httpx.URL(live.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=LONG) as connection:
        connection.sendall(head.encode() + body)
        until_true(lambda: live.inference.at_once == 1)
        assert live.inference.left_early == 0
    until_true(lambda: live.inference.left_early == 1)


def test_a_stream_that_breaks_off_ends_in_an_error(live: Live) -> None:
    live.inference.breaks_off = {f"base/{BUNDLED_MODEL}"}
    with live.openai as client:
        stream = client.chat.completions.create(model=BUNDLED_MODEL, messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="inference service"):
            list(stream)


def test_a_diagram_in_a_conversation(live: Live) -> None:
    with live.openai as client:
        answer = client.chat.completions.create(
            model=BUNDLED_MODEL,
            messages=MESSAGES,
            extra_body={"diagram": {"format": "svg", "max_attempts": 3}},
        )
    message = answer.choices[0].message
    assert message.content == SOURCE
    check_diagram(live, message.model_dump()["diagram"])


def check_diagram(live: Live, diagram: dict[str, object]) -> None:
    assert set(diagram) >= {"id", "rendered", "attempts", "svg_url", "png_url", "error"}
    assert "source" not in diagram and "svg" not in diagram and "png" not in diagram
    assert diagram["rendered"] is True and diagram["error"] is None
    svg = live.http.get(str(diagram["svg_url"]))
    assert (svg.status_code, svg.headers["content-type"]) == (200, "image/svg+xml")
    assert svg.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert svg.headers["x-content-type-options"] == "nosniff"
    assert live.http.get(str(diagram["png_url"])).content == b"\x89PNG fake"


def test_a_streamed_diagram(live: Live) -> None:
    with live.openai as client:
        stream = client.chat.completions.create(
            model=BUNDLED_MODEL,
            messages=MESSAGES,
            stream=True,
            extra_body={"diagram": {"format": "png"}},
        )
        deltas = [chunk.choices[0].delta for chunk in stream]
    assert "".join(delta.content or "" for delta in deltas) == SOURCE
    assert deltas[0].model_dump()["draft"] == {"attempt": 1, "text": "@start"}
    check_diagram(live, deltas[-1].model_dump()["diagram"])


def stream_a_diagram(live: Live) -> None:
    with live.openai as client:
        stream = client.chat.completions.create(
            model=BUNDLED_MODEL, messages=MESSAGES, stream=True, extra_body={"diagram": {}}
        )
        list(stream)


def test_a_streamed_diagram_without_its_image_ends_in_an_error(live: Live) -> None:
    live.inference.drawing = DRAWN | {"png": None}
    with pytest.raises(openai.APIError, match="sent no image"):
        stream_a_diagram(live)


def test_a_streamed_diagram_that_cannot_be_stored_ends_in_an_error(live: Live) -> None:
    # A file where the folder of diagrams should be: whatever is written below it fails.
    folder = live.services.storage.diagram("dg_any", "svg").parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way")
    with pytest.raises(openai.APIError, match="could not be stored"):
        stream_a_diagram(live)


def test_a_diagram_that_never_renders_carries_the_renderers_line(live: Live) -> None:
    live.inference.drawing = BROKEN
    with live.openai as client:
        answer = client.chat.completions.create(
            model=BUNDLED_MODEL, messages=MESSAGES, extra_body={"diagram": {}}
        )
    diagram = answer.choices[0].message.model_dump()["diagram"]
    assert diagram["error"] == {"line": 2, "message": "Syntax Error?"}
    assert (diagram["rendered"], diagram["svg_url"], diagram["png_url"]) == (False, None, None)


def test_an_unknown_model_is_named(live: Live) -> None:
    with live.openai as client:
        for name in ("gpt-4", "../x", "/etc/passwd", "x" * 400, "Qwen/Qwen2.5-0.5B-Instruct"):
            with pytest.raises(openai.NotFoundError) as error:
                client.chat.completions.create(model=name, messages=MESSAGES)
            assert (error.value.code, error.value.param) == ("model_not_found", "model")
    assert live.inference.asked == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("api_base", "http://evil.test"),
        ("chat_template", "{{ 1 }}"),
        ("trust_remote_code", True),
        ("max_tokens", 10**9),
        ("max_tokens", "5"),
        ("n", 2),
        ("temperature", -1),
        ("stop", ["a"] * 5),
        ("diagram", {"format": "html"}),
    ],
)
def test_what_is_not_allowed_is_named(live: Live, field: str, value: object) -> None:
    with live.openai as client, pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(
            model=BUNDLED_MODEL, messages=MESSAGES, extra_body={field: value}
        )
    assert str(error.value.param).startswith(field)
    assert live.inference.asked == []


def test_errors_of_the_model_reach_the_client(live: Live) -> None:
    live.inference.dead = {f"base/{BUNDLED_MODEL}"}
    body = {"model": BUNDLED_MODEL, "messages": MESSAGES}
    for stream in (False, True):
        answer = live.http.post("/v1/chat/completions", json=body | {"stream": stream})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
        assert answer.json()["error"]["code"] == "queue_full"


def test_only_fine_tuned_models_can_be_deleted(live: Live) -> None:
    run = live.succeeded_run()
    live.deploy("uml", run.id)
    assert run.fine_tuned_model is not None
    with live.openai as client:
        for name in ("uml", BUNDLED_MODEL):
            with pytest.raises(openai.PermissionDeniedError):
                client.models.delete(name)
        with pytest.raises(openai.ConflictError, match="uml"):
            client.models.delete(run.fine_tuned_model)
        assert live.http.delete("/api/deployments/uml").status_code == 204
        assert client.models.delete(run.fine_tuned_model).deleted
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(run.fine_tuned_model)


def test_names_of_others_do_not_answer(live: Live) -> None:
    run = live.succeeded_run(owner="somebody-else")
    body = {"model": run.fine_tuned_model, "messages": MESSAGES}
    assert live.http.post("/v1/chat/completions", json=body).status_code == 404
    assert json.loads(live.http.get("/v1/models").text)["data"][0]["id"] == BUNDLED_MODEL
