"""The API's description and its Swagger page."""

import re

from starlette.testclient import TestClient


def test_swagger_lives_under_the_csp(browser: TestClient) -> None:
    answer = browser.get("/docs")
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]* src=\"/static/)", answer.text)
    assert not re.search(r"(src|href)=\"(?!/static/)", answer.text)
    for url in re.findall(r"(?:src|href)=\"([^\"]+)\"", answer.text):
        static = browser.get(url)
        assert static.status_code == 200
        assert "immutable" in static.headers["cache-control"]


def test_the_description_names_every_public_route(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    assert description["info"]["title"] == "GenPlat"
    assert {"/api/datasets", "/api/library/{model_id}", "/v1/chat/completions"} <= set(
        description["paths"]
    )
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if path.startswith(("/api/", "/v1/")):
                wrong = str(operation["responses"]["4XX"])
                assert "/ErrorAnswer" in wrong, (method, path)
            assert "HTTPValidationError" not in str(operation)
    assert not [path for path in description["paths"] if path.startswith(("/login", "/runs"))]
    fields = description["paths"]["/api/datasets"]["post"]["requestBody"]["content"]
    assert "file" in fields["multipart/form-data"]["schema"]["properties"]
