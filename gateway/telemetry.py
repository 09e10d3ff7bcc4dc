"""Counts and times requests for Prometheus. Labels are routes, never what a caller wrote."""

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.services import Services
from gateway.standing_metrics import StandingMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Telemetry:
    """The gateway's own metrics, in a registry of their own."""

    def __init__(self) -> None:
        # When each counter began is a second series beside each, which nobody looks at.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
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

    def render(self, services: Services) -> bytes:
        """The exposition text: what was counted, and how things stand now."""
        standing = CollectorRegistry()
        standing.register(StandingMetrics(services))
        return b"".join(
            generate_latest(registry)
            for registry in (self.registry, services.log.telemetry.registry, standing)
        )


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
