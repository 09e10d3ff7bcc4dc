"""The collaborators that the gateway's modules share; knows no web framework."""

from dataclasses import dataclass, field

from redis.asyncio import Redis

from gateway.database import Database
from gateway.inference_client import InferenceClient
from gateway.orchestrator.breaker import Breakers
from gateway.rate_limits import RateLimits
from gateway.run_feed import RunFeed
from gateway.settings import GatewaySettings
from gateway.stopping import Stopping
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
    stopping: Stopping = field(default_factory=Stopping)
    breakers: Breakers = field(default_factory=Breakers)
