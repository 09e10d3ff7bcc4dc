"""What a run's model wrote for validation prompts while it learned. Only reads."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlmodel import Session, col

from gateway.database import Database
from gateway.run_views import owned_run
from gateway.tables import RunEventRow


@dataclass(frozen=True)
class Sample:
    """``before``: what was written for the same prompt at the evaluation before; None at the
    first one."""

    prompt: str
    target: str
    output: str
    before: str | None


@dataclass(frozen=True)
class Samples:
    """The samples of ``step``; ``steps`` are all that have some, ``previous`` the one before."""

    steps: tuple[int, ...]
    step: int
    previous: int | None
    samples: tuple[Sample, ...]

    @property
    def is_latest(self) -> bool:
        return self.step == self.steps[-1]


def samples_at(
    *, database: Database, owner: str, run_id: str, step: int | None = None
) -> Samples | None:
    """The samples of one evaluation, in the order they were written: of ``step``, or of the last
    one where that has none. None as long as nothing was written."""
    with database.read() as session:
        owned_run(session, owner=owner, run_id=run_id)
        query = select(_step()).where(*_of_run(run_id)).distinct()
        steps = tuple(sorted(session.execute(query).scalars()))
        if not steps:
            return None
        shown: int = step if step is not None and step in steps else steps[-1]
        place = steps.index(shown)
        previous = steps[place - 1] if place else None
        before = {row["prompt"]: row["output"] for row in _written(session, run_id, previous)}
        written = _written(session, run_id, shown)
    samples = tuple(
        Sample(row["prompt"], row["target"], row["output"], before.get(row["prompt"]))
        for row in written
    )
    return Samples(steps, shown, previous, samples)


def _written(session: Session, run_id: str, step: int | None) -> list[dict[str, str]]:
    """A step's samples; of a step that was repeated, those of the last attempt."""
    query = (
        select(col(RunEventRow.attempt), col(RunEventRow.payload))
        .where(*_of_run(run_id), _step() == step)
        .order_by(col(RunEventRow.attempt), col(RunEventRow.seq))
    )
    rows = session.execute(query).all()
    return [payload for attempt, payload in rows if attempt == rows[-1][0]]


def _of_run(run_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(RunEventRow.run_id) == run_id, col(RunEventRow.type) == "sample"


def _step() -> ColumnElement[int]:
    step: ColumnElement[int] = col(RunEventRow.payload)["step"].as_integer()
    return step
