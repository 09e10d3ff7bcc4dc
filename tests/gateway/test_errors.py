"""What users see of the troubles that no module foresees by name."""

import errno

import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.testclient import TestClient

from gateway.errors import describe_validation, install_error_handlers
from shared.runs import FineTuneSpec


def operational(said: str) -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception(said))


@pytest.mark.parametrize(
    ("trouble", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507, "disk is full"),
        (operational("database or disk is full"), 507, "disk is full"),
        (operational("database is locked"), 503, "database is busy"),
        (NoConnectionFree("QueuePool limit of size 5 reached"), 503, "database is busy"),
        (DataError("INSERT", {}, Exception("NUL")), 400, "cannot be stored"),
    ],
)
def test_a_trouble_below_is_a_sentence(trouble: Exception, status: int, said: str) -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/api/fail")
    def fail() -> None:
        raise trouble

    answer = TestClient(app).get("/api/fail")
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"learning_rate": 10}, "learning_rate"),
        ({"lora_r": "many"}, "lora_r"),
        ({"load_best_model_at_end": "perhaps"}, "load_best_model_at_end"),
        ({"target_modules": ["q_proj", 1]}, "target_modules.1"),
        ({"datasets": [{"id": "a", "weight": "b"}]}, "datasets.0.weight"),
        ({"function_name": 1}, "function_name"),
    ],
)
def test_a_wrong_value_is_named_by_its_field_alone(wrong: dict[str, object], param: str) -> None:
    with pytest.raises(ValidationError) as error:
        FineTuneSpec.model_validate({"base_model": "b", "dataset_id": "ds_1", **wrong})
    message, named = describe_validation(error.value.errors())
    assert named == param and message.startswith(f"{param}: ")


def test_another_trouble_of_the_system_is_not_hidden() -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/api/fail")
    def fail() -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        TestClient(app).get("/api/fail")
