"""Service LLMs that the operator declared; reads their file, and knows no HTTP.

No client can name an address: routes know upstreams by name, and the keys stay in the gateway's
environment.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.errors import InvalidData

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
MAX_FILE_BYTES = 1_000_000


class Prices(BaseModel):
    """What a million tokens cost, as the operator says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_per_million: float = Field(ge=0, allow_inf_nan=False)
    output_per_million: float = Field(ge=0, allow_inf_nan=False)
    currency: str = Field("USD", pattern=r"^[A-Z]{3}$")

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        spent = self.input_per_million * prompt_tokens
        return (spent + self.output_per_million * completion_tokens) / 1e6


class Upstream(BaseModel):
    """One model behind an OpenAI-shaped API. ``base_url`` ends where ``/chat/completions`` begins
    (for OpenAI in ``/v1``). ``continues``: it goes on with an answer that was begun, as GenPlat and
    vLLM do (``continue_final_message``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN)
    base_url: str = Field(max_length=2000)
    model: str = Field(min_length=1, max_length=200, description="Its name at the upstream.")
    api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    key_header: Literal["authorization", "api-key"] = Field(
        "authorization", description="api-key for Azure."
    )
    query: dict[str, str] = Field(default_factory=dict, description="For Azure: api-version.")
    continues: bool = False
    prices: Prices | None = Field(None, description="To tell what evaluations cost.")
    connect_seconds: float = Field(5, gt=0, le=600)
    first_token_seconds: float = Field(30, gt=0, le=600)
    stall_seconds: float = Field(15, gt=0, le=600, description="Silence that ends a stream.")
    timeout_seconds: float = Field(120, gt=0, le=3600, description="For an answer in one piece.")
    retries: int = Field(
        1, ge=0, le=5, description="After errors before any word, within a budget."
    )
    cooldown_seconds: float = Field(5, gt=0, le=600, description="After failures in a row.")

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            right = False
        if not right or "@" in url or "?" in url or "#" in url or not url.isprintable():
            raise ValueError("must be an http(s) address without a user, a password or a query")
        return url.rstrip("/")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    upstreams: list[Upstream]

    @field_validator("upstreams")
    @classmethod
    def _one_of_each_name(cls, upstreams: list[Upstream]) -> list[Upstream]:
        names = [upstream.name for upstream in upstreams]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is declared twice")
        return upstreams


def read_upstreams(path: Path | None) -> dict[str, Upstream]:
    """By name; none without a file. InvalidData names the file and what is wrong in it."""
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidData(f"GENPLAT_UPSTREAMS_FILE: {path} is larger than a megabyte.")
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        declared = _File.model_validate(content).upstreams
    except OSError as error:
        raise InvalidData(f"GENPLAT_UPSTREAMS_FILE: {path}: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidData(f"GENPLAT_UPSTREAMS_FILE: {path} is no YAML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidData(f"GENPLAT_UPSTREAMS_FILE: {path}: {place}: {first['msg']}.") from error
    return {upstream.name: upstream for upstream in declared}


def missing_key(upstream: Upstream, environment: Mapping[str, str]) -> str | None:
    """A sentence where the upstream's key is not there, or could be none."""
    if upstream.api_key_env is None:
        return None
    key = key_of(upstream, environment)
    if not key:
        return f"{upstream.name}: {upstream.api_key_env} is not set in the gateway's environment."
    if not (key.isascii() and key.isprintable()):
        return f"{upstream.name}: {upstream.api_key_env} holds characters that no key has."
    return None


def key_of(upstream: Upstream, environment: Mapping[str, str]) -> str:
    """Without the line's end that a key from a file may bring."""
    return environment.get(upstream.api_key_env or "", "").strip()
