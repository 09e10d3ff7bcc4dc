"""What the gateway's parts stand at when Prometheus asks: read then, counted nowhere twice."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from gateway.model_telemetry import MOST_NAMES
from gateway.orchestrator.shadows import Fate
from gateway.queue_watch import RUNS
from gateway.services import Services
from gateway.tables import QueueSight, Run

STATUSES = ("validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled")
_BREAKER = {"closed": 0, "half_open": 1, "open": 2}


class StandingMetrics(Collector):
    """Of one gateway, and of the database that it shares with others."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        yield from self._database()
        yield from self._request_log()
        yield self._breakers()
        refused = CounterMetricFamily(
            "genplat_limit_refusals", "Requests beyond their key's limits.", labels=["limit"]
        )
        for kind, count in self._services.limits.refused.items():
            refused.add_metric([kind], count)
        yield refused
        yield GaugeMetricFamily(
            "genplat_limits_shared",
            "1 while keys' limits are counted with the other gateways, in Redis.",
            self._services.limits.shared,
        )
        shadows = CounterMetricFamily(
            "genplat_shadow_requests",
            "Requests that a route's shadow was to be asked too.",
            labels=["outcome"],
        )
        for fate in get_args(Fate):
            shadows.add_metric([fate], self._services.shadows.counts[fate])
        yield shadows

    def _database(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("genplat_database_up", "1 while the database answers.")
        try:
            counts, seen = self._read()
        except (SQLAlchemyError, OSError):
            # The rest is to be seen in an outage too.
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        runs = GaugeMetricFamily("genplat_runs", "Runs by status.", labels=["status"])
        for status in STATUSES:
            runs.add_metric([status], counts.get(status, 0))
        yield runs
        if seen is not None:
            yield GaugeMetricFamily(
                "genplat_queue_up", "1 while Redis, the runs' queue, answers.", seen.reachable
            )
            yield GaugeMetricFamily(
                "genplat_queue_workers", "Trainers that take runs from it.", seen.workers
            )

    def _read(self) -> tuple[dict[str, int], QueueSight | None]:
        with self._services.database.read() as session:
            rows = session.exec(select(Run.status, func.count()).group_by(Run.status)).all()
            counts: dict[str, int] = dict(rows)
            return counts, session.get(QueueSight, RUNS)

    def _request_log(self) -> Iterator[Metric]:
        log = self._services.log
        yield CounterMetricFamily(
            "genplat_request_log_written", "Requests written to the log.", value=log.written
        )
        yield CounterMetricFamily(
            "genplat_request_log_dropped",
            "Requests left out of the log because it could not keep up.",
            value=log.dropped,
        )
        yield GaugeMetricFamily(
            "genplat_request_log_waiting", "Requests to be written yet.", log.waiting
        )

    def _breakers(self) -> Metric:
        states = GaugeMetricFamily(
            "genplat_breaker_state",
            "Of the circuit breaker of each target that was asked: 0 closed, 1 half-open, 2 open.",
            labels=["target"],
        )
        for label, breaker in self._services.breakers.known()[:MOST_NAMES]:
            states.add_metric([label], _BREAKER[breaker.state])
        return states
