"""Whose run is next: start-time fair queueing over owners. Knows no queue and no worker.

Runs are served in rounds. An owner's run is of the round that is being served, or of the one after
that owner's run before it, whichever is later: who queues many runs gets one of them a round, and
who comes later waits for one run of each other owner at most. Within a round the first comes first.
"""

from sqlalchemy import func
from sqlmodel import Session, col, or_, select

from gateway.tables import Run
from shared.runs import TERMINAL

# Ranks of a round; many more than there are owners.
ROUND = 1_000_000


def next_rank(session: Session, owner: str) -> int:
    """The rank of a run that ``owner`` queues now; unique, and smaller for those served before."""
    served = col(Run.started_at).is_not(None)
    waits = or_(served, col(Run.status).not_in(TERMINAL))
    current = _highest(session, served)
    own = _highest(session, waits, Run.owner == owner)
    turn = max(1, current // ROUND, own // ROUND + 1 if own else 0)
    first = turn * ROUND
    in_turn = col(Run.queue_rank).between(first, first + ROUND - 1)
    return max(first, _highest(session, in_turn) + 1)


def _highest(session: Session, *conditions: object) -> int:
    query = select(func.max(Run.queue_rank)).where(*conditions)  # type: ignore[arg-type]
    return session.exec(query).one() or 0
