"""What shadows said beside what readers got: all that can be told without a reader. The pairs come
from the request log; knows no HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from pydantic import BaseModel
from sqlmodel import col, select

from gateway.database import Database
from gateway.orchestrator.likeness import likeness
from gateway.orchestrator.routes import owned_route
from gateway.tables import LoggedRequest

# Comparing texts takes some milliseconds a pair, and somebody waits for it.
MOST_PAIRS = 200


@dataclass(frozen=True)
class Pair:
    reader: LoggedRequest
    shadow: LoggedRequest


class ShadowSide(BaseModel):
    """One side of the pairs; ``rendered`` is a share of the diagrams."""

    answered: float
    rendered: float | None
    median_seconds: float | None
    median_characters: float | None


class ShadowComparison(BaseModel):
    """``alike``: the mean likeness of both texts, where both are known (``compared`` pairs)."""

    shadow: str
    pairs: int
    compared: int
    alike: float | None
    readers: ShadowSide
    shadows: ShadowSide


def shadow_comparisons(*, database: Database, owner: str, name: str) -> list[ShadowComparison]:
    """Of the route's newest pairs, one comparison for each target that was a shadow."""
    pairs = _newest_pairs(database, owner, name)
    labels = dict.fromkeys(pair.shadow.served_by or "" for pair in pairs)
    return [
        compare_shadows(label, [pair for pair in pairs if (pair.shadow.served_by or "") == label])
        for label in labels
    ]


def _newest_pairs(database: Database, owner: str, name: str) -> list[Pair]:
    with database.read() as session:
        owned_route(session, owner, name)
        shadows = session.exec(
            select(LoggedRequest)
            .where(
                LoggedRequest.owner == owner,
                LoggedRequest.route == name,
                col(LoggedRequest.shadow_of).is_not(None),
            )
            .order_by(col(LoggedRequest.created_at).desc())
            .limit(MOST_PAIRS)
        ).all()
        wanted = [shadow.shadow_of for shadow in shadows]
        readers = session.exec(
            select(LoggedRequest).where(
                LoggedRequest.owner == owner, col(LoggedRequest.id).in_(wanted)
            )
        ).all()
    by_id = {reader.id: reader for reader in readers}
    return [
        Pair(by_id[shadow.shadow_of], shadow)
        for shadow in shadows
        if shadow.shadow_of is not None and shadow.shadow_of in by_id
    ]


def compare_shadows(label: str, pairs: Sequence[Pair]) -> ShadowComparison:
    alike = [
        likeness(pair.shadow.reply, pair.reader.reply)
        for pair in pairs
        if pair.shadow.reply is not None and pair.reader.reply is not None
    ]
    return ShadowComparison(
        shadow=label,
        pairs=len(pairs),
        compared=len(alike),
        alike=fmean(alike) if alike else None,
        readers=_side([pair.reader for pair in pairs]),
        shadows=_side([pair.shadow for pair in pairs]),
    )


def _side(rows: Sequence[LoggedRequest]) -> ShadowSide:
    answered = [row for row in rows if row.status == 200]
    drawn = [float(row.rendered) for row in answered if row.rendered is not None]
    lengths = [len(row.reply) for row in answered if row.reply is not None]
    return ShadowSide(
        answered=len(answered) / len(rows) if rows else 0.0,
        rendered=fmean(drawn) if drawn else None,
        median_seconds=median(row.seconds for row in answered) if answered else None,
        median_characters=median(lengths) if lengths else None,
    )
