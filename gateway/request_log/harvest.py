"""A dataset of what was asked and answered: traffic that becomes training data."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import case, or_
from sqlmodel import col

from gateway.database import Database
from gateway.datasets.store import MAX_DESCRIPTION, MAX_NAME, create_dataset
from gateway.idempotency import Claim
from gateway.request_log.queries import RequestFilter, matching
from gateway.tables import Dataset, LoggedRequest
from shared.errors import InvalidData
from shared.storage import Storage

MAX_ROWS = 100_000
_AT_ONCE = 500
OK = 200
# Answers that came to their own end; null where the service LLM does not say.
_ENDED = ("stop", "eos")


class HarvestSpec(BaseModel):
    """``requests``: which ones. Of those, the ones with an answer that is whole and was not rated
    down; a correction stands in for any answer, and for none. The same conversation is taken once,
    the best rated and then the newest answer to it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=MAX_NAME)
    description: str = Field("", max_length=MAX_DESCRIPTION)
    requests: RequestFilter = RequestFilter.model_validate({})
    max_rows: int = Field(MAX_ROWS, ge=1, le=MAX_ROWS)


def make_dataset(
    *,
    database: Database,
    storage: Storage,
    owner: str,
    spec: HarvestSpec,
    claim: Claim | None = None,
) -> Dataset:
    """`InvalidData` where no request fits."""
    with tempfile.TemporaryDirectory(dir=storage.temporary()) as folder:
        path = Path(folder) / "requests.jsonl"
        with path.open("w", encoding="utf-8") as file:
            count = _write(file, database, owner, spec)
        if not count:
            raise InvalidData(
                "None of these requests makes a row: a row needs an answer that is whole, whose "
                "words are in the log, and that was not rated down.",
                param="requests",
            )
        return create_dataset(
            database=database,
            storage=storage,
            owner=owner,
            source=path,
            filename="requests.jsonl",
            name=spec.name,
            description=spec.description or _described(spec),
            claim=claim,
        )


def _write(file: IO[str], database: Database, owner: str, spec: HarvestSpec) -> int:
    # (Not the conversations: there may be gigabytes of them.)
    seen: set[bytes] = set()
    for row in _good(database, owner, spec.requests):
        asked = hashlib.sha256(json.dumps(row.messages).encode()).digest()
        if asked in seen:
            continue
        seen.add(asked)
        file.write(json.dumps({"messages": _conversation(row)}, ensure_ascii=False) + "\n")
        if len(seen) == spec.max_rows:
            break
    return len(seen)


def _conversation(row: LoggedRequest) -> list[dict[str, str]]:
    turns, answer = list(row.messages or []), row.correction or row.reply or ""
    if turns and turns[-1]["role"] == "assistant":
        # The answer went on with what the caller had begun.
        answer = turns.pop()["content"] + answer
    return [*turns, {"role": "assistant", "content": answer}]


def _good(database: Database, owner: str, wanted: RequestFilter) -> Iterator[LoggedRequest]:
    row = LoggedRequest
    corrected = col(row.correction).is_not(None)
    whole = or_(col(row.finish_reason).in_(_ENDED), col(row.finish_reason).is_(None))
    liked = or_(col(row.feedback).is_(None), col(row.feedback) == 1)
    drawn = or_(col(row.rendered).is_(None), col(row.rendered).is_(True))
    answered = (col(row.status) == OK) & (col(row.reply) != "") & whole & liked & drawn
    query = (
        matching(owner, wanted)
        .where(
            col(row.withheld).is_(None),
            col(row.prompt) != "",
            or_(corrected, answered),
        )
        .order_by(
            corrected.desc(),
            case((col(row.feedback) == 1, 1), else_=0).desc(),
            col(row.created_at).desc(),
            col(row.id),
        )
    )
    with database.read() as session:
        yield from session.exec(query.execution_options(yield_per=_AT_ONCE))


def _described(spec: HarvestSpec) -> str:
    given = spec.requests.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    said = ", ".join(f"{name} {value}" for name, value in given.items())
    return f"From the request log{f': {said}' if said else ''}."
