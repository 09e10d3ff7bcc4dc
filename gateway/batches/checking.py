"""Reads a file of requests and says what is wrong with it, line by line. Knows no database."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_REQUESTS = 50_000
MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_ERRORS = 100
MAX_CUSTOM_ID = 512


@dataclass(frozen=True)
class BatchRequest:
    """``line`` counts from 1, as people do."""

    line: int
    custom_id: str
    body: dict[str, Any]


@dataclass
class Findings:
    """``errors`` are OpenAI's: ``{code, line, message, param}``. None of them: ``model`` is that
    of all requests, of which there are ``total``, first named in ``model_line``."""

    total: int = 0
    model: str | None = None
    model_line: int | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def add(self, code: str, message: str, *, line: int | None, param: str | None = None) -> None:
        self.errors.append({"code": code, "line": line, "message": message, "param": param})

    @property
    def enough(self) -> bool:
        return len(self.errors) >= MAX_ERRORS


def check_input(path: Path, endpoint: str) -> Findings:
    """What is in the file; at most a hundred errors."""
    found = Findings()
    for number, line in _lines(path):
        found.total += 1
        if found.total > MAX_REQUESTS:
            said = f"A batch may hold {MAX_REQUESTS:,} requests. Split the file."
            found.add("too_many_requests", said, line=number)
            break
        _check_line(found, number, line, endpoint)
        if found.enough:
            break
    if not found.total:
        found.add("empty_file", "The file holds no request.", line=None)
    return found


def requests(path: Path, *, without: Collection[int] = ()) -> Iterator[BatchRequest]:
    """The requests of a file in which nothing was wrong, but for those of some lines."""
    for number, line in _lines(path):
        if number not in without:
            item = json.loads(line)
            yield BatchRequest(number, item["custom_id"], item["body"])


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers; what is too long comes cut."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            whole = line
            while not line.endswith(b"\n") and (line := file.readline(MAX_LINE_BYTES)):
                pass
            if whole.strip():
                yield number, whole


def _check_line(found: Findings, number: int, line: bytes, endpoint: str) -> None:
    if len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
        said = f"This line is longer than {MAX_LINE_BYTES:,} bytes."
        found.add("line_too_long", said, line=number)
        return
    try:
        item = json.loads(line)
    except UnicodeDecodeError:
        found.add("invalid_json_line", "This line is not UTF-8.", line=number)
        return
    except (ValueError, RecursionError):
        item = None
    if not isinstance(item, dict):
        found.add("invalid_json_line", "This line is not a JSON object.", line=number)
        return
    _check_custom_id(found, number, item)
    if item.get("method") != "POST":
        found.add("invalid_method", "method must be POST.", line=number, param="method")
    if item.get("url") != endpoint:
        said = f"url must be the endpoint of the batch, {endpoint}."
        found.add("mismatched_endpoint", said, line=number, param="url")
    _check_body(found, number, item)


def _check_custom_id(found: Findings, number: int, item: dict[str, Any]) -> None:
    custom_id = item.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID:
        said = f"custom_id must be a text of 1 to {MAX_CUSTOM_ID} characters."
        found.add("missing_required_parameter", said, line=number, param="custom_id")
    elif custom_id in found.ids:
        said = f"The custom_id {custom_id[:80]!r} is that of a request before."
        found.add("duplicate_custom_id", said, line=number, param="custom_id")
    else:
        found.ids.add(custom_id)


def _check_body(found: Findings, number: int, item: dict[str, Any]) -> None:
    body = item.get("body")
    if not isinstance(body, dict):
        said = "body must be an object: the request."
        found.add("missing_required_parameter", said, line=number, param="body")
        return
    model = body.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= 500 or not model.isprintable():
        said = "body.model must be the name of a model."
        found.add("missing_required_parameter", said, line=number, param="body.model")
    elif found.model is None:
        found.model, found.model_line = model, number
    elif model != found.model:
        said = f"All requests of a batch go to one model; those before go to {found.model[:80]!r}."
        found.add("mismatched_model", said, line=number, param="body.model")
