"""What a run's model wrote for validation prompts while it learned. Only reads."""

from dataclasses import dataclass

from sqlmodel import col, select

from gateway.database import Database
from gateway.run_views import owned_run
from gateway.tables import RunEventRow

LOOKED_AT = 20


@dataclass(frozen=True)
class Sample:
    step: int
    prompt: str
    target: str
    output: str


def latest_samples(*, database: Database, owner: str, run_id: str) -> list[Sample]:
    """The samples of the last step that has any, in the order they were written."""
    query = select(RunEventRow).where(RunEventRow.run_id == run_id, RunEventRow.type == "sample")
    newest_first = query.order_by(col(RunEventRow.attempt).desc(), col(RunEventRow.seq).desc())
    with database.read() as session:
        owned_run(session, owner=owner, run_id=run_id)
        rows = session.exec(newest_first.limit(LOOKED_AT)).all()
    found = [
        Sample(**{name: row.payload[name] for name in ("step", "prompt", "target", "output")})
        for row in reversed(rows)
    ]
    return [sample for sample in found if sample.step == found[-1].step]
