"""A whole batch on both databases, with texts that not every database takes."""

import json

from openai import OpenAI

from gateway.database import Database
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import live_gateway
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.parts import until_true

URL = "/v1/chat/completions"
TEXTS = [
    "plain",
    "nul \x00 inside",
    "half \ud83d of a pair",
    "ünïcode 😀",
    "line\nbreak",
    "\\u0000",
]


def line(custom_id: str, said: str) -> str:
    messages = [{"role": "user", "content": said}]
    body = {"model": BUNDLED_MODEL, "messages": messages}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": body})


def test_any_text_comes_back(settings: GatewaySettings, either_database: Database) -> None:
    url = either_database.engine.url.render_as_string(hide_password=False)
    changes = {} if url.startswith("sqlite") else {"database_url": url}
    with live_gateway(settings.model_copy(update=changes)) as live:
        assert live.services.database.engine.url == either_database.engine.url
        live.inference.echoes = True
        content = "\n".join(line(text, "said") for text in TEXTS).encode()
        with OpenAI(base_url=f"{live.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
            file = client.files.create(file=("r\x01.jsonl", content), purpose="batch")
            made = client.batches.create(
                input_file_id=file.id, endpoint=URL, completion_window="24h", metadata={"k": "ü"}
            )
            over = ("completed", "failed")
            until_true(lambda: client.batches.retrieve(made.id).status in over)
            batch = client.batches.retrieve(made.id)
            assert (batch.status, batch.errors) == ("completed", None)
            text = client.files.content(str(batch.output_file_id)).text
            assert [json.loads(one)["custom_id"] for one in text.splitlines()] == TEXTS
            assert {one.purpose for one in client.files.list()} == {
                "fine-tune",
                "batch",
                "batch_output",
            }


def test_no_model_has_such_a_name(settings: GatewaySettings, either_database: Database) -> None:
    url = either_database.engine.url.render_as_string(hide_password=False)
    changes = {} if url.startswith("sqlite") else {"database_url": url}
    names = ["nul \x00", "half \ud83d", "x" * 501]
    content = "\n".join(
        line(f"{number} {name}", "b").replace(BUNDLED_MODEL, json.dumps(name)[1:-1])
        for number, name in enumerate(names)
    )
    # (What is said of a custom_id may hold it.)
    twice = f"{content}\n{content}".encode()
    with (
        live_gateway(settings.model_copy(update=changes)) as live,
        OpenAI(base_url=f"{live.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client,
    ):
        file = client.files.create(file=("r.jsonl", twice), purpose="batch")
        made = client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
        until_true(lambda: client.batches.retrieve(made.id).status == "failed")
        errors = client.batches.retrieve(made.id).errors
    assert errors is not None and errors.data is not None
    assert [error.line for error in errors.data if error.param == "body.model"] == [*range(1, 7)]
    assert [error.line for error in errors.data if error.param == "custom_id"] == [4, 5, 6]
