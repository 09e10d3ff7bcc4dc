"""The rows of a run's checkpoints, written from what its worker reports of them; only the
projector calls this. Everything can be repeated without harm."""

from datetime import datetime

from sqlmodel import Session, col, select

from gateway.tables import CheckpointRow
from shared.run_events import Advanced, Checkpointed, Measured, RunEvent


def write_checkpoints(session: Session, event: RunEvent) -> None:
    """Fold an event in: a new checkpoint, those that a resumed attempt has yet to make, or the
    evaluation of one that was saved in a hurry."""
    match event.payload:
        case Checkpointed() as made:
            _upsert(session, event.run_id, made, event.time)
            if made.kept:
                gone = col(CheckpointRow.step).not_in(made.kept)
                _remove(session, event.run_id, gone, event.time)
        case Advanced(resumed_from_step=int(step)):
            _remove(session, event.run_id, col(CheckpointRow.step) > step, event.time)
        case Measured(eval_loss=float()) as measured:
            row = session.get(CheckpointRow, (event.run_id, measured.step))
            if row is None or row.removed_at is not None:
                return
            _copy_measured(row, measured)
            session.add(row)
            session.flush()
        case _:
            return
    _choose_best(session, event.run_id)


def _upsert(session: Session, run_id: str, made: Checkpointed, time: datetime) -> None:
    row = session.get(CheckpointRow, (run_id, made.step))
    if row is None:
        row = CheckpointRow(run_id=run_id, step=made.step, created_at=time)
    elif row.removed_at is not None:
        # Made once more, by a resumed attempt.
        row.created_at, row.removed_at = time, None
    _copy_measured(row, made)
    session.add(row)
    session.flush()


def _copy_measured(row: CheckpointRow, said: Checkpointed | Measured) -> None:
    for name in ("loss", "eval_loss", "mean_token_accuracy", "eval_mean_token_accuracy"):
        if (value := getattr(said, name)) is not None:
            setattr(row, name, value)


def _remove(session: Session, run_id: str, which: object, time: datetime) -> None:
    query = select(CheckpointRow).where(
        CheckpointRow.run_id == run_id,
        col(CheckpointRow.removed_at).is_(None),
        which,  # type: ignore[arg-type]
    )
    for row in session.exec(query).all():
        row.removed_at = time
        session.add(row)
    session.flush()


def _choose_best(session: Session, run_id: str) -> None:
    """Of those that are there, the first with the lowest validation loss."""
    query = select(CheckpointRow).where(CheckpointRow.run_id == run_id)
    rows = session.exec(query).all()
    there = [row for row in rows if row.removed_at is None and row.eval_loss is not None]
    best = min(there, key=lambda row: (row.eval_loss or 0.0, row.step), default=None)
    for row in rows:
        row.best = row is best
        session.add(row)
    session.flush()
