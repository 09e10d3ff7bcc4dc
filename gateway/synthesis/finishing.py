"""The accepted rows of a synthesis become a dataset that knows where it came from."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from gateway.database import Database
from gateway.datasets.store import MAX_DESCRIPTION, create_dataset, get_dataset
from gateway.idempotency import Claim
from gateway.services import Services
from gateway.synthesis.pairs import Pair, record_of, seeds_of
from gateway.synthesis.sources import MAX_KNOWN
from gateway.synthesis.views import owned
from gateway.tables import Dataset, Synthesis, SynthesisRow, now
from shared.datasets import Record, read_records
from shared.errors import Conflict, InvalidData, NotFound

_ACCEPTED = ("accepted", "edited")


class FinishSpec(BaseModel):
    """``include_seed``: the new version holds the seed dataset's rows, too. Rows that nobody has
    looked at are left out."""

    model_config = ConfigDict(extra="forbid")

    include_seed: bool = True
    name: str | None = Field(None, min_length=1, max_length=100)
    description: str = Field("", max_length=MAX_DESCRIPTION)


@dataclass(frozen=True)
class _Finished:
    """Ends the synthesis in the transaction that creates its dataset: there is never a second, and
    it holds ``rows``, which are those that are accepted still."""

    owner: str
    synthesis_id: str
    rows: Sequence[Pair]
    claim: Claim | None

    def attach(self, session: Session, object_id: str) -> None:
        found = owned(session, self.owner, self.synthesis_id, update=True)
        if found.status != "reviewing":
            raise Conflict(f"The synthesis is {found.status} by now.", code="not_reviewing")
        if _accepted(session, self.synthesis_id) != self.rows:
            raise Conflict(
                "Rows were reviewed at this very moment. Look at them, and finish it again.",
                code="reviewed_meanwhile",
            )
        found.status, found.result_id, found.finished_at = "succeeded", object_id, now()
        session.add(found)
        if self.claim is not None:
            self.claim.attach(session, object_id)


def finish_synthesis(
    *,
    services: Services,
    owner: str,
    synthesis_id: str,
    spec: FinishSpec,
    claim: Claim | None = None,
) -> Dataset:
    """The dataset; made once, however often it is asked for."""
    database, storage = services.database, services.storage
    with database.read() as session:
        found = owned(session, owner, synthesis_id)
        rows = _accepted(session, synthesis_id)
    if found.status == "succeeded" and found.result_id is not None:
        return get_dataset(database=database, owner=owner, dataset_id=found.result_id)
    if found.status != "reviewing":
        raise Conflict(f"The synthesis is {found.status}, not reviewing.", code="not_reviewing")
    if not rows:
        raise InvalidData("Accept at least one row: a dataset needs some.", param="synthesis_id")
    into = _into(database, owner, found)
    if into is None and found.dataset_id is not None and spec.include_seed:
        raise InvalidData(
            "include_seed: the seed dataset was deleted. Finish it without its rows.",
            param="include_seed",
        )
    seed = into if spec.include_seed else None
    records = storage.dataset_records(into.id) if into else None
    with tempfile.TemporaryDirectory(dir=storage.temporary()) as folder:
        path = Path(folder) / "synthetic.jsonl"
        system = _system(records) if records else ""
        with path.open("w", encoding="utf-8") as out:
            seed_rows = _write(out, read_records(records)) if seed and records else 0
            _write(out, (record_of(row, system) for row in rows))
        return create_dataset(
            database=database,
            storage=storage,
            owner=owner,
            source=path,
            filename="synthetic.jsonl",
            name=spec.name or found.name,
            description=spec.description or _described(found, len(rows)),
            derived_from=_lineage(found, into, len(rows), seed_rows),
            claim=_Finished(owner, synthesis_id, rows, claim),
        )


def _into(database: Database, owner: str, found: Synthesis) -> Dataset | None:
    """What the rows go to; None where it is gone."""
    if found.dataset_id is None:
        return None
    try:
        return get_dataset(database=database, owner=owner, dataset_id=found.dataset_id)
    except NotFound:
        return None


def _accepted(session: Session, synthesis_id: str) -> Sequence[Pair]:
    query = select(SynthesisRow.prompt, SynthesisRow.completion).where(
        SynthesisRow.synthesis_id == synthesis_id, col(SynthesisRow.status).in_(_ACCEPTED)
    )
    return [Pair(*texts) for texts in session.exec(query.order_by(col(SynthesisRow.number)))]


def _system(records: Path) -> str:
    return seeds_of(islice(read_records(records), MAX_KNOWN)).system


def _write(out: IO[str], records: Iterator[Record]) -> int:
    count = 0
    for record in records:
        messages = record.model_dump(mode="json", exclude_none=True)["messages"]
        out.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        count += 1
    return count


def _lineage(
    found: Synthesis, into: Dataset | None, accepted: int, seed_rows: int
) -> dict[str, Any]:
    parents = []
    if into is not None:
        parents.append(
            {"id": into.id, "name": into.name, "version": into.version, "rows": into.rows}
        )
    return {
        "synthesis_id": found.id,
        "parents": parents,
        "evaluation_id": found.evaluation_id,
        "generator": found.spec["model"],
        "judge": found.spec.get("judge"),
        "counts": {
            "seed": seed_rows,
            "synthetic": accepted,
            "generated": found.kept + found.dropped,
            "dropped": found.dropped,
        },
        "aims": [aim["label"] for aim in found.aims],
    }


def _described(found: Synthesis, accepted: int) -> str:
    rows = "1 row" if accepted == 1 else f"{accepted:,} rows"
    return f"With {rows} that {found.spec['model']} wrote."[:MAX_DESCRIPTION]
