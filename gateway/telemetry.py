"""Counts and times requests for Prometheus. Labels are routes, never what a caller wrote."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func
from sqlmodel import select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.database import Database
from gateway.tables import Run

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_STATUSES = ("validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled")


class Telemetry:
    """The gateway's own metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "genplat_http_requests",
            "Answered requests.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "genplat_http_request_seconds",
            "Time to the end of the answer.",
            ["method", "route"],
            registry=self.registry,
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300),
        )
        self.open = Gauge(
            "genplat_http_requests_open", "Requests being answered.", registry=self.registry
        )
        self.runs = Gauge("genplat_runs", "Runs by status.", ["status"], registry=self.registry)

    def render(self, database: Database) -> bytes:
        """The exposition text, with the runs as the database has them now."""
        with database.read() as session:
            rows = session.exec(select(Run.status, func.count()).group_by(Run.status)).all()
        counts = dict(rows)
        for status in _STATUSES:
            self.runs.labels(status).set(counts.get(status, 0))
        return generate_latest(self.registry)


class Measured:
    """The middleware that feeds a `Telemetry`."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = "aborted"

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        begin = time.perf_counter()
        self.telemetry.open.inc()
        try:
            await self.app(scope, receive, send_and_look)
        finally:
            self.telemetry.open.dec()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unknown")
            self.telemetry.requests.labels(method, route, status).inc()
            self.telemetry.seconds.labels(method, route).observe(time.perf_counter() - begin)
