"""What an operator may declare, and how a mistake is told."""

from pathlib import Path

import pytest

from gateway.orchestrator.upstreams import missing_key, read_upstreams
from shared.errors import InvalidData

GOOD = """
upstreams:
  - name: service
    base_url: https://llm.example/v1/
    model: large-1
    api_key_env: SERVICE_KEY
  - {name: azure, base_url: "https://a.example/openai/deployments/x", model: x,
     key_header: api-key, query: {api-version: "2024-06-01"}, api_key_env: AZURE_KEY}
"""


def read(folder: Path, text: str) -> dict[str, object]:
    path = folder / "upstreams.yaml"
    path.write_text(text)
    return dict(read_upstreams(path))


def test_upstreams_are_known_by_name(tmp_path: Path) -> None:
    path = tmp_path / "u.yaml"
    path.write_text(GOOD)
    found = read_upstreams(path)
    assert list(found) == ["service", "azure"]
    assert found["service"].base_url == "https://llm.example/v1"
    assert found["azure"].query == {"api-version": "2024-06-01"}
    assert read_upstreams(None) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("upstreams: [", "no YAML"),
        ("", "the file"),
        ("upstreams: [{name: a, base_url: 'https://x/v1'}]", "upstreams.0.model"),
        ("upstreams: [{name: a, base_url: 'file:///etc', model: m}]", "http"),
        ("upstreams: [{name: a, base_url: 'https://x:port/v1', model: m}]", "http"),
        ("upstreams: [{name: a, base_url: 'https:///v1', model: m}]", "http"),
        ("upstreams: [{name: a, base_url: 'https://me:pw@x/v1', model: m}]", "password"),
        ("upstreams: [{name: A B, base_url: 'https://x', model: m}]", "upstreams.0.name"),
        ("upstreams: [{name: a, base_url: 'https://x', model: m, key: k}]", "upstreams.0.key"),
        (GOOD + "  - {name: service, base_url: 'https://y', model: m}", "declared twice"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidData, match="GENPLAT_UPSTREAMS_FILE") as caught:
        read(tmp_path, text)
    assert said in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"nowhere\.yaml: No such file"):
        read_upstreams(tmp_path / "nowhere.yaml")


def test_a_key_that_is_not_set_is_said(tmp_path: Path) -> None:
    path = tmp_path / "u.yaml"
    path.write_text(GOOD)
    service = read_upstreams(path)["service"]
    assert "SERVICE_KEY is not set" in str(missing_key(service, {"SERVICE_KEY": ""}))
    assert missing_key(service, {"SERVICE_KEY": "k"}) is None
