"""What a fine-tuning job may ask for: OpenAI's fields, ours beside them, and what is refused."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings import GatewaySettings
from gateway.tables import Dataset
from tests.gateway.api.fine_tuning import ERROR_KEYS, REQUEST, create, run_of
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.parts import DATASET, add_dataset

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        add_dataset(live.services.database, dataset_id="ds_unseen")
        yield live


def spec_of(live: Live, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = run_of(live, create(live, **changes).id)["spec"]
    return found


def supervised(**numbers: Any) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": numbers}}


@pytest.mark.parametrize("place", ["method", "hyperparameters"])
def test_numbers_become_those_of_a_run(live: Live, place: str) -> None:
    numbers = {"n_epochs": 4, "batch_size": 8, "learning_rate_multiplier": 0.5}
    job = create(live, **{place: supervised(**numbers) if place == "method" else numbers})
    assert job.hyperparameters.to_dict() == numbers
    found = run_of(live, job.id)["spec"]
    assert (found["num_train_epochs"], found["per_device_train_batch_size"]) == (4.0, 8)
    # Half of what LoRA takes for so few rows.
    assert found["learning_rate"] == 5e-4


@pytest.mark.parametrize(
    ("rows", "others", "usual"),
    [
        (1050, {}, 1e-3),  # 945 are left to learn from
        (1050, {"validation_file": "file-unseen"}, 5e-4),
        (1050, {"extra_body": {"genplat": {"validation_split": 0}}}, 5e-4),
        (1050, {"extra_body": {"genplat": {"method": "full"}}}, 5e-5),
        (50_000, {}, 2e-4),
    ],
)
def test_the_multiplier_is_of_what_would_be_chosen(
    live: Live, rows: int, others: dict[str, Any], usual: float
) -> None:
    with live.services.database.write() as session:
        session.get_one(Dataset, DATASET).rows = rows
    found = spec_of(live, method=supervised(learning_rate_multiplier=2), **others)
    assert found["learning_rate"] == pytest.approx(2 * usual)
    assert spec_of(live, **others)["learning_rate"] == "auto"


def test_whatever_openai_has_no_name_for(live: Live) -> None:
    ours = {"method": "qlora", "lora_r": 4, "learning_rate": 0.002, "num_train_epochs": 0.5}
    found = spec_of(live, extra_body={"genplat": ours})
    assert {name: found[name] for name in ours} == ours


def test_a_suffix_may_be_any_word(live: Live) -> None:
    assert spec_of(live, suffix="auto")["suffix"] == "auto"


@pytest.mark.parametrize(
    "nothing",
    [
        {"integrations": []},
        {"integrations": None},
        {"suffix": None, "seed": None, "metadata": None},
        {"suffix": "", "validation_file": None, "metadata": {}},
        {"method": {"type": "supervised"}},
        {"method": {"type": "supervised", "supervised": {}}},
    ],
)
def test_what_says_nothing_changes_nothing(live: Live, nothing: dict[str, Any]) -> None:
    assert spec_of(live, **nothing) == spec_of(live)


WANDB = {"type": "wandb", "wandb": {"project": "p"}}
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("model", {"model": "nobody/nothing"}),
    ("model", {"model": "ft:nobody:genplat::12345678"}),
    ("model", {"model": ""}),
    ("training_file", {"training_file": "file-unknown"}),
    ("training_file", {"training_file": DATASET}),
    ("training_file", {"training_file": "file-result-test"}),
    ("validation_file", {"validation_file": "file-unknown"}),
    ("validation_file", {"validation_file": "file-test"}),
    ("integrations", {"integrations": [WANDB]}),
    ("method", {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}}),
    ("method", {"method": {"type": "reinforcement"}}),
    ("method.type", {"method": {"type": "magic"}}),
    ("hyperparameters", {"method": supervised(n_epochs=2), "hyperparameters": {"n_epochs": 2}}),
    ("hyperparameters.n_epochs", {"hyperparameters": {"n_epochs": 51}}),
    ("hyperparameters.n_epochs", {"hyperparameters": {"n_epochs": 0}}),
    ("hyperparameters.batch_size", {"hyperparameters": {"batch_size": 257}}),
    (
        "hyperparameters.learning_rate_multiplier",
        {"hyperparameters": {"learning_rate_multiplier": 0}},
    ),
    ("learning_rate_multiplier", {"hyperparameters": {"learning_rate_multiplier": 1e6}}),
    ("method.supervised.hyperparameters.beta", {"method": supervised(beta=0.1)}),
    ("suffix", {"suffix": "x" * 65}),
    ("suffix", {"suffix": "two words"}),
    ("seed", {"seed": -1}),
    ("seed", {"seed": 2**31}),
    ("metadata", {"metadata": {str(number): "" for number in range(17)}}),
    ("metadata." + "k" * 65, {"metadata": {"k" * 65: ""}}),
    ("metadata.k", {"metadata": {"k": "v" * 513}}),
    ("metadata.k", {"metadata": {"k": 1}}),
    ("n_epochs", {"n_epochs": 3}),
    ("genplat.colour", {"genplat": {"colour": "red"}}),
    ("genplat.lora_r", {"genplat": {"lora_r": 0}}),
    ("genplat.base_model", {"genplat": {"base_model": "x/y"}}),
    ("genplat.datasets", {"genplat": {"datasets": [{"id": DATASET}]}}),
    ("genplat.continue_from", {"model": "ft:x", "genplat": {"continue_from": "run_x"}}),
    ("genplat.dataset_id", {"genplat": {"dataset_id": DATASET}}),
    (
        "genplat.validation_dataset_id",
        {"validation_file": "file-unseen", "genplat": {"validation_dataset_id": "ds_unseen"}},
    ),
    ("genplat.suffix", {"suffix": "a", "genplat": {"suffix": "b"}}),
    (
        "genplat.num_train_epochs",
        {"hyperparameters": {"n_epochs": 2}, "genplat": {"num_train_epochs": 3}},
    ),
    (
        "genplat.learning_rate",
        {"hyperparameters": {"learning_rate_multiplier": 2}, "genplat": {"learning_rate": 1e-3}},
    ),
]


@pytest.mark.parametrize(("param", "changes"), REFUSED)
def test_what_cannot_be_asked_for_is_named(live: Live, param: str, changes: dict[str, Any]) -> None:
    with live.openai as client, pytest.raises(openai.BadRequestError) as refused:
        client.post("/fine_tuning/jobs", body=REQUEST | changes, cast_to=dict[str, Any])
    error = refused.value.body
    assert isinstance(error, dict) and error.keys() == ERROR_KEYS
    assert error["param"] == param
    assert error["message"].endswith(".") and len(error["message"]) > 20
    assert live.http.get("/api/runs").json()["data"] == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = (
    *("model", "training_file", "validation_file", "method", "hyperparameters", "seed"),
    *("suffix", "metadata", "integrations", "genplat"),
)
OURS = ("lora_r", "datasets", "continue_from", "target_modules", "learning_rate", "task_prefix")
bodies = st.dictionaries(
    st.sampled_from(FIELDS),
    anything | st.dictionaries(st.sampled_from(OURS), anything, max_size=2),
    max_size=4,
)


def test_no_body_and_no_id_breaks_anything(live: Live) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=bodies, tail=st.text(min_size=1, max_size=30))
    def check(body: dict[str, Any], tail: str) -> None:
        answers = [
            client.post(JOBS, content=json.dumps(REQUEST | body)),
            client.get(f"{JOBS}/{_quoted(f'ftjob-{tail}')}"),
            client.get(f"{JOBS}/{_quoted(tail)}/events"),
            client.post(f"{JOBS}/{_quoted(tail)}/cancel"),
            client.get(JOBS, params={"after": tail, "metadata[x]": tail}),
            client.get(f"/v1/files/{_quoted(f'file-{tail}')}"),
            client.get(f"/v1/files/{_quoted(f'file-result-{tail}')}/content"),
            client.get("/v1/files", params={"after": tail, "purpose": tail}),
        ]
        for answer in answers:
            assert answer.status_code < 500, answer.text
            if answer.is_client_error:
                assert answer.json()["error"].keys() >= ERROR_KEYS

    client = live.http
    client.headers["content-type"] = "application/json"
    check()


def _quoted(text: str) -> str:
    return quote(text, safe="")
