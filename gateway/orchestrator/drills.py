"""Faults on purpose: for a while, what a route's targets answer goes wrong, so that one can see
who steps in. The fault is made in the gateway; nobody is asked to fail."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.database import Database
from gateway.orchestrator.routes import owned_route
from gateway.tables import Route, now
from shared.errors import GenPlatError, TimedOut, TooManyRequests, UpstreamFailed

Fault = Literal["429", "500", "stall", "cut"]
LONGEST_SECONDS = 3600


# Of a stream that is cut or falls silent so many events are let through.
EVENTS_BEFORE = 4
STALL_SECONDS = 3.0


def made_error(fault: Fault) -> GenPlatError:
    """What somebody who really failed so would have made the gateway say."""
    if fault == "429":
        return TooManyRequests("A drill: too many requests.", code="drill_429")
    if fault == "stall":
        return TimedOut("A drill: the answer fell silent.", code="drill_stall")
    return UpstreamFailed("A drill: the answer failed.", code=f"drill_{fault}")


class DrillSpec(BaseModel):
    """``cut``: streams break off after some words; ``stall``: they fall silent there."""

    model_config = ConfigDict(extra="forbid")

    fault: Fault
    seconds: int = Field(60, ge=1, le=LONGEST_SECONDS)


def active_drill(drill: Mapping[str, Any] | None, at: datetime) -> Mapping[str, Any] | None:
    """A stored drill while it lasts: ``fault``, ``until``."""
    if drill is None or datetime.fromisoformat(drill["until"]) <= at:
        return None
    return drill


def active_fault(drill: Mapping[str, Any] | None, at: datetime) -> Fault | None:
    active = active_drill(drill, at)
    return active["fault"] if active else None


def start_drill(*, database: Database, owner: str, name: str, spec: DrillSpec) -> Route:
    """Also in place of one that is under way."""
    until = now() + timedelta(seconds=spec.seconds)
    return _set(database, owner, name, {"fault": spec.fault, "until": until.isoformat()})


def end_drill(*, database: Database, owner: str, name: str) -> Route:
    return _set(database, owner, name, None)


def _set(database: Database, owner: str, name: str, drill: dict[str, Any] | None) -> Route:
    with database.write() as session:
        route = owned_route(session, owner, name, to_change=True)
        route.drill = drill
        session.add(route)
    return route
