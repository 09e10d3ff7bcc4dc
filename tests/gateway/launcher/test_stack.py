"""What is started with which secrets and names, and real programs among it."""

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from redis import Redis, RedisError
from redis.exceptions import NoPermissionError

from gateway.launcher.logs import MergedLog
from gateway.launcher.stack import Stack, plan
from gateway.launcher.supervisor import Patience, Supervisor
from gateway.rate_limits import Quota, RateLimits
from gateway.settings import GatewaySettings
from shared import event_stream, hardware
from shared.hardware import HardwareFacts
from shared.job_queue import TRAIN_RUN, ArqQueue, client, keep_taken, say_gone, say_listening
from shared.run_events import Logged, RunEvent

NO_REDIS = "redis://:pw@127.0.0.1:9/0"


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(data_dir=tmp_path, port=0)


def environment_of(stack: Stack, name: str) -> Mapping[str, str]:
    (program,) = [program for program in stack.programs if program.name == name]
    return program.environment


def redis_url(stack: Stack, service: str = "trainer") -> str:
    return environment_of(stack, service)["GENPLAT_REDIS_URL"]


def test_only_the_gateway_learns_its_secrets(settings: GatewaySettings) -> None:
    stack = plan(settings, {"PATH": "/bin", "GENPLAT_ADMIN_KEY": "a", "GENPLAT_DATABASE_URL": "b"})
    by_name = {program.name: program for program in stack.programs}
    assert list(by_name) == ["valkey", "inference", "trainer", "gateway"]
    for name in ("inference", "trainer"):
        assert not {"GENPLAT_ADMIN_KEY", "GENPLAT_DATABASE_URL", "GENPLAT_LOGIN_TOKEN"} & set(
            by_name[name].environment
        )
    gateway = by_name["gateway"].environment
    assert gateway["GENPLAT_ADMIN_KEY"] == "a"
    assert stack.login_url.endswith("/login?token=" + gateway["GENPLAT_LOGIN_TOKEN"])
    assert (
        gateway["GENPLAT_INTERNAL_TOKEN"]
        == by_name["trainer"].environment["GENPLAT_INTERNAL_TOKEN"]
    )


def test_only_the_gateway_learns_the_keys_of_upstreams(tmp_path: Path) -> None:
    file = tmp_path / "upstreams.yaml"
    file.write_text(
        "upstreams: [{name: a, base_url: 'https://a/v1', model: m, api_key_env: SERVICE_KEY}]"
    )
    settings = GatewaySettings(data_dir=tmp_path, port=0, upstreams_file=file)
    stack = plan(settings, {"SERVICE_KEY": "secret", "OTHER": "plain"})
    assert environment_of(stack, "gateway")["SERVICE_KEY"] == "secret"
    for name in ("inference", "trainer"):
        assert "SERVICE_KEY" not in environment_of(stack, name)
        assert environment_of(stack, name)["OTHER"] == "plain"


def test_where_a_flag_goes_before_a_variable_the_gateway_does_not_read_that(
    tmp_path: Path,
) -> None:
    settings = GatewaySettings(data_dir=tmp_path, host="127.0.0.2", port=8123)
    given = {"GENPLAT_DATA_DIR": "/elsewhere", "GENPLAT_HOST": "", "GENPLAT_PORT": "many"}
    environment = environment_of(plan(settings, given), "gateway")
    assert [environment[name] for name in given] == [str(tmp_path), "127.0.0.2", "8123"]


def test_no_secret_is_in_a_command_line(settings: GatewaySettings) -> None:
    stack = plan(settings, {})
    secrets = [
        stack.programs[-1].environment["GENPLAT_LOGIN_TOKEN"],
        stack.programs[-1].environment["GENPLAT_INTERNAL_TOKEN"],
        Redis.from_url(redis_url(stack)).connection_pool.connection_kwargs["password"],
    ]
    words = " ".join(" ".join(program.command) for program in stack.programs)
    assert not any(secret in words for secret in secrets)


def test_a_redis_of_ones_own_replaces_valkey(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, redis_url=NO_REDIS)
    stack = plan(settings, {})
    assert [program.name for program in stack.programs] == ["inference", "trainer", "gateway"]
    assert redis_url(stack) == NO_REDIS


@pytest.mark.parametrize(
    ("host", "reachable"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("::", "[::1]"),
        ("0:0::0", "[::1]"),
        ("::1", "[::1]"),
        ("FD00:0::2", "[fd00::2]"),
        ("192.168.1.5", "192.168.1.5"),
        ("box", "box"),
    ],
)
def test_the_link_names_an_address_that_can_be_opened_and_is_served(
    tmp_path: Path, host: str, reachable: str
) -> None:
    settings = GatewaySettings(
        data_dir=tmp_path, host=host, port=8123, allowed_hosts="genplat.example, localhost"
    )
    stack = plan(settings, {"GENPLAT_ALLOWED_HOSTS": "genplat.example, localhost"})
    assert stack.url == f"http://{reachable}:8123"
    assert stack.login_url.startswith(f"{stack.url}/login?token=")
    hosts = environment_of(stack, "gateway")["GENPLAT_ALLOWED_HOSTS"].split(",")
    assert hosts == ["genplat.example", "localhost", reachable]


def listens_on(host: str) -> bool:
    """Whether this machine has the address, and IPv6 at all."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.bind((host, 0))
    except OSError:
        return False
    return True


@contextmanager
def started(stack: Stack, name: str, folder: Path) -> Iterator[None]:
    """One program of the stack, from when it is ready."""
    log = MergedLog(folder, None)
    supervisor = Supervisor(log, Patience(start=100))
    try:
        supervisor.start(program for program in stack.programs if program.name == name)
        yield
    finally:
        supervisor.stop()
        log.close()


@pytest.mark.parametrize("host", ["127.0.0.2", "::"])
def test_the_gateway_is_found_ready_on_other_addresses(tmp_path: Path, host: str) -> None:
    if not listens_on(host):
        pytest.skip(f"{host} is no address of this machine")
    settings = GatewaySettings(data_dir=tmp_path, host=host, port=0, redis_url=NO_REDIS)
    stack = plan(settings, {**os.environ, "GENPLAT_PREPARE_BUNDLED_MODEL": "false"})
    with started(stack, "gateway", tmp_path / "logs"):
        assert httpx.get(stack.login_url, trust_env=False).status_code == 303


def test_text_is_served_where_java_is_mistyped(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, port=0, redis_url=NO_REDIS)
    stack = plan(settings, {**os.environ, "GENPLAT_JAVA": "/no/such/java"})
    with started(stack, "inference", tmp_path / "logs"):
        assert "GENPLAT_JAVA" in (stack.diagram_problem() or "")


@pytest.fixture
def queue(settings: GatewaySettings, tmp_path: Path) -> Iterator[Stack]:
    stack = plan(settings, os.environ)
    with started(stack, "valkey", tmp_path / "logs"):
        yield stack


async def use_everything(url: str) -> None:
    """What gateway and trainer say to Redis, each once."""
    redis = client(url)
    jobs = ArqQueue(redis)
    try:
        await keep_taken(redis, "run_a:1", seconds=60)
        assert await jobs.enqueue(TRAIN_RUN, "run_b:1", {"any": "thing"}, rank=7)
        assert await jobs.taken("run_a:1") and await jobs.holds("run_b:1")
        await jobs.remove("run_b:1")
        assert not await jobs.holds("run_b:1")
        await say_listening(redis, "worker", seconds=60)
        assert await jobs.listeners() == 1
        await say_gone(redis, "worker")
        assert await jobs.listeners() == 0
        facts = HardwareFacts(worker="w", name="cpu", device="cpu (any)", kind="cpu",
                              memory_bytes=1, precision="fp32")  # fmt: skip
        await hardware.announce(redis, facts, seconds=60)
        assert await hardware.read_all(redis) == [facts]
        event = RunEvent(
            run_id="run_a", attempt=1, seq=1, time=datetime.now(UTC), payload=Logged(message="hi")
        )
        written = await event_stream.publish(redis, event)
        assert await event_stream.holds(redis, written)
        assert [found for _, found in await event_stream.read(redis)] == [event]
        assert (await redis.xinfo_stream(event_stream.STREAM))["length"] == 1
    finally:
        await redis.aclose(close_connection_pool=True)


async def use_limits(url: str) -> None:
    """What the gateway alone says to Redis. (Where that is refused it counts for itself.)"""
    redis = client(url)
    try:
        limits, quota = RateLimits(redis), Quota("key_a", requests=1)
        assert (await limits.take(quota, {"requests": 1})).refusal is None
        assert (await limits.take(quota, {"requests": 1})).refusal is not None
        assert await redis.exists(quota.name("requests"))
    finally:
        await redis.aclose(close_connection_pool=True)


def test_the_services_may_use_their_keys_and_nothing_else(queue: Stack, tmp_path: Path) -> None:
    with Redis.from_url(redis_url(queue)) as redis:
        redis.set("genplat:cancel:run_1", 1)
        redis.zadd("genplat:queue", {"job": 1})
        for forbidden in ("FLUSHALL", "CONFIG GET *", "EVAL return 0", "SET other 1", "KEYS *"):
            with pytest.raises(RedisError):
                redis.execute_command(*forbidden.split())
        with pytest.raises(NoPermissionError):
            redis.script_load("return 0")
    asyncio.run(use_everything(redis_url(queue)))
    of_gateway = redis_url(queue, "gateway")
    asyncio.run(use_limits(of_gateway))
    with Redis.from_url(of_gateway) as redis, pytest.raises(RedisError):
        redis.flushall()
    wrong = redis_url(queue).replace("genplat:", "genplat:x", 1)
    with Redis.from_url(wrong) as stranger, pytest.raises(RedisError):
        stranger.ping()
    assert queue.queue_admin_url is not None
    with Redis.from_url(queue.queue_admin_url) as admin:
        admin.flushall()
    assert (tmp_path / "valkey").stat().st_mode & 0o777 == 0o700
