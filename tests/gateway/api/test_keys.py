"""Keys through the API."""

import re

import pytest
from starlette.testclient import TestClient


def test_a_key_from_creation_to_revocation(client: TestClient) -> None:
    answer = client.post("/api/keys", json={"name": " laptop "})
    made = answer.json()
    assert answer.status_code == 201
    assert re.fullmatch(r"gp-[A-Za-z0-9_-]{43}", made["key"])
    assert made["name"] == "laptop"
    assert made["key"].startswith(made["hint"])
    listed = client.get("/api/keys").json()["data"]
    assert made["id"] in [key["id"] for key in listed]
    assert made["key"] not in str(listed)
    assert client.delete(f"/api/keys/{made['id']}").status_code == 204
    assert client.delete(f"/api/keys/{made['id']}").status_code == 404
    assert made["id"] not in [key["id"] for key in client.get("/api/keys").json()["data"]]


def test_a_repeat_does_not_show_the_secret_again(client: TestClient) -> None:
    key = {"Idempotency-Key": "k"}
    first = client.post("/api/keys", json={"name": "n"}, headers=key).json()
    again = client.post("/api/keys", json={"name": "n"}, headers=key).json()
    assert again == first | {"key": None}


def test_last_use_is_noted(client: TestClient) -> None:
    made = client.post("/api/keys", json={"name": "n"}).json()
    client.get("/api/keys", headers={"Authorization": f"Bearer {made['key']}"})
    (found,) = [key for key in client.get("/api/keys").json()["data"] if key["id"] == made["id"]]
    assert found["last_used_at"] >= found["created_at"]


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "\u0000", None, 1])
def test_odd_names_are_refused(client: TestClient, name: object) -> None:
    answer = client.post("/api/keys", json={"name": name})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["param"] == "name"
