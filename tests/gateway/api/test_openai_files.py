"""`/v1/files` through OpenAI's unmodified client: datasets and results as files."""

import json
from collections.abc import Iterator

import openai
import pytest

from gateway.settings import GatewaySettings
from gateway.tables import MetricRow, Run, now
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.parts import OWNER, add_dataset

LINE = '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "a"}]}\n'
GOOD = (LINE * 3 % ("one", "two", "three")).encode()
UNKNOWN = ("file-unknown", "file-result-unknown", "ds_test", "file-", "file-a/b", "file-\x7f", "x")


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def succeeded(live: Live, **changes: object) -> Run:
    """A run with results: two steps, the second of them evaluated."""
    run = live.succeeded_run(finished_at=now(), **changes)
    with live.services.database.write() as session:
        session.add(MetricRow(run_id=run.id, step=1, epoch=0.5, loss=2.5))
        second = MetricRow(run_id=run.id, step=2, epoch=1, loss=1.25, mean_token_accuracy=0.5)
        second.eval_loss, second.eval_mean_token_accuracy = 1.5, 0.25
        session.add(second)
    return run


def test_a_file_is_a_dataset(live: Live) -> None:
    with live.openai as client:
        made = client.files.create(file=("my rows.jsonl", GOOD), purpose="fine-tune")
        assert (made.object, made.purpose, made.status) == ("file", "fine-tune", "processed")
        assert (made.filename, made.bytes, made.expires_at) == ("my rows.jsonl", len(GOOD), None)
        dataset_id = made.id.replace("file-", "ds_")
        dataset = live.http.get(f"/api/datasets/{dataset_id}").json()
        assert (dataset["name"], dataset["version"], dataset["rows"]) == ("my rows", 1, 3)
        assert client.files.retrieve(made.id) == made
        assert client.files.content(made.id).read() == GOOD
        again = client.files.create(file=("my rows.jsonl", GOOD), purpose="fine-tune")
        second = live.http.get(f"/api/datasets/{again.id.replace('file-', 'ds_')}").json()
        assert (second["name"], second["version"]) == ("my rows", 2)
        deleted = client.files.delete(made.id)
        assert (deleted.id, deleted.deleted) == (made.id, True)
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(made.id)
    assert live.http.get(f"/api/datasets/{dataset_id}").status_code == 404


@pytest.mark.parametrize("first", ["purpose", "file"])
def test_the_form_may_come_in_any_order(live: Live, first: str) -> None:
    parts = [("purpose", (None, "fine-tune")), ("file", ("a.jsonl", GOOD))]
    answer = live.http.post("/v1/files", files=parts if first == "purpose" else parts[::-1])
    assert answer.status_code == 200, answer.text


def test_a_wrong_line_is_named(live: Live) -> None:
    bad = GOOD + b'{"messages": []}\n'
    with live.openai as client, pytest.raises(openai.UnprocessableEntityError) as error:
        client.files.create(file=("bad.jsonl", bad), purpose="fine-tune")
    assert isinstance(error.value.body, dict)
    assert error.value.body.keys() == {"message", "type", "param", "code", "details"}
    assert error.value.body["details"][0]["line"] == 4
    assert live.http.get("/v1/files").json()["data"][0]["id"] == "file-test"


@pytest.mark.parametrize(
    ("form", "param", "said"),
    [
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after", "anchor"),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "60",
            },
            "expires_after",
            "3600",
        ),
        ({"purpose": "assistants"}, "purpose", "fine-tune"),
        ({"purpose": "nonsense"}, "purpose", "nonsense"),
        ({}, "purpose", "fine-tune"),
        ({"purpose": "fine-tune", "expires_after[seconds]": "3600"}, "expires_after", "expire"),
        ({"purpose": "fine-tune", "colour": "red"}, "colour", "colour"),
    ],
)
def test_what_a_form_cannot_ask_for(
    live: Live, form: dict[str, str], param: str, said: str
) -> None:
    answer = live.http.post("/v1/files", data=form, files={"file": ("a.jsonl", GOOD)})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["param"], said in error["message"]) == (param, True)
    assert len(live.http.get("/v1/files").json()["data"]) == 1


def test_files_are_as_large_as_datasets(live: Live) -> None:
    large = GOOD * 2000
    assert len(large) > live.services.settings.max_body_bytes
    with live.openai as client:
        assert client.files.create(file=("a.jsonl", large), purpose="fine-tune").bytes == len(large)


def test_the_same_upload_twice_is_one_file(live: Live) -> None:
    with live.openai as client:
        made = {
            client.files.create(
                file=("a.jsonl", GOOD),
                purpose="fine-tune",
                extra_headers={"Idempotency-Key": "once"},
            ).id
            for _ in range(2)
        }
    assert len(made) == 1


def test_results_are_files_too(live: Live) -> None:
    run = succeeded(live)
    file_id = run.id.replace("run_", "file-result-")
    with live.openai as client:
        [file] = client.files.list(purpose="fine-tune-results")
        assert (file.id, file.purpose) == (file_id, "fine-tune-results")
        content = client.files.content(file_id).read()
        assert content.decode().splitlines() == [
            "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
            "1,2.5,,,",
            "2,1.25,0.5,1.5,0.25",
        ]
        assert file.bytes == len(content) == client.files.retrieve(file_id).bytes
        with pytest.raises(openai.PermissionDeniedError, match="results"):
            client.files.delete(file_id)


def test_a_list_in_pages_and_both_orders(live: Live) -> None:
    with live.openai as client:
        ids = ["file-test"]
        for _ in range(2):
            ids.append(client.files.create(file=("a.jsonl", GOOD), purpose="fine-tune").id)
            ids.append(succeeded(live).id.replace("run_", "file-result-"))
        assert [file.id for file in client.files.list()] == ids[::-1]
        assert [file.id for file in client.files.list(limit=2)] == ids[::-1]
        assert [file.id for file in client.files.list(limit=1, order="asc")] == ids
        data = [one for one in ids if "result" not in one]
        assert [file.id for file in client.files.list(purpose="fine-tune", limit=2)] == data[::-1]
        assert list(client.files.list(purpose="batch")) == []
        page = live.http.get("/v1/files", params={"limit": 2}).json()
        assert page.keys() == {"object", "data", "first_id", "last_id", "has_more"}
        assert (page["first_id"], page["last_id"]) == (ids[-1], ids[-2])
        assert page["has_more"] is True


def test_files_that_were_made_at_the_same_moment(live: Live) -> None:
    moment = now()
    for run_id in ("run_a", "run_b", "run_c"):
        live.succeeded_run(
            id=run_id, fine_tuned_model=f"ft:{run_id}", finished_at=moment, created_at=moment
        )
    with live.openai as client:
        for order in ("asc", "desc"):
            found = client.files.list(purpose="fine-tune-results", order=order, limit=1)
            assert len({file.id for file in found}) == 3


@pytest.mark.parametrize("after", UNKNOWN)
def test_a_list_after_nothing(live: Live, after: str) -> None:
    answer = live.http.get("/v1/files", params={"after": after})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 10_001}, {"order": "up"}])
def test_a_list_that_cannot_be_made(live: Live, params: dict[str, str]) -> None:
    answer = live.http.get("/v1/files", params=params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(params)))


def test_files_that_do_not_exist(live: Live) -> None:
    database = live.services.database
    add_dataset(database, owner="somebody-else", dataset_id="ds_theirs")
    theirs = succeeded(live, owner="somebody-else").id.replace("run_", "file-result-")
    unfinished = live.succeeded_run(status="running").id.replace("run_", "file-result-")
    for file_id in (*UNKNOWN, "file-theirs", theirs, unfinished):
        path = f"/v1/files/{file_id.replace(chr(0x7F), '%7F')}"
        for method, place in (("GET", path), ("GET", f"{path}/content"), ("DELETE", path)):
            answer = live.http.request(method, place)
            assert answer.status_code in (404, 405), (method, place)
            error = answer.json()["error"]
            assert error.keys() == {"message", "type", "param", "code"}
    listed = live.http.get("/v1/files").json()["data"]
    assert [file["id"] for file in listed] == ["file-test"]
    assert OWNER not in json.dumps(listed)
