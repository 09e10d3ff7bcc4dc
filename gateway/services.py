"""The collaborators that the gateway's modules share; knows no web framework."""

import asyncio
from dataclasses import dataclass, field
from functools import cached_property

from redis.asyncio import Redis

from gateway.database import Database
from gateway.fresh import Fresh
from gateway.inference_client import InferenceClient
from gateway.orchestrator.breaker import Breakers
from gateway.orchestrator.latency import Latencies
from gateway.orchestrator.plans import Named
from gateway.orchestrator.retries import RetryBudgets
from gateway.orchestrator.shadows import Shadows
from gateway.rate_limits import RateLimits
from gateway.request_log.writer import RequestLog
from gateway.run_feed import RunFeed
from gateway.settings import GatewaySettings
from gateway.stopping import Stopping
from gateway.tables import ApiKey
from gateway.upstream_client import UpstreamClient
from shared.job_queue import JobQueue
from shared.storage import Storage


@dataclass(frozen=True)
class Services:
    """One gateway's connections, made by the app factory and handed to whoever needs them."""

    settings: GatewaySettings
    database: Database
    storage: Storage
    redis: Redis
    queue: JobQueue
    inference: InferenceClient
    upstreams: UpstreamClient
    limits: RateLimits
    feed: RunFeed
    log: RequestLog
    stopping: Stopping = field(default_factory=Stopping)
    breakers: Breakers = field(default_factory=Breakers)
    # Set where an evaluation waits to be worked on.
    evaluation_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    # Set where a synthesis waits to be worked on.
    synthesis_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    # Set where a loop can go on.
    loop_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    retry_budgets: RetryBudgets = field(default_factory=RetryBudgets)
    latencies: Latencies = field(default_factory=Latencies)
    # Set where a batch was made or asked to end.
    batch_wanted: asyncio.Event = field(default_factory=asyncio.Event)

    @cached_property
    def shadows(self) -> Shadows:
        return Shadows(self.breakers)

    @cached_property
    def known_keys(self) -> Fresh[ApiKey]:
        return Fresh(self.database)

    @cached_property
    def known_names(self) -> Fresh[Named]:
        return Fresh(self.database)
