"""What is started with which secrets, and a real Valkey among it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisError

from gateway.launcher.logs import MergedLog
from gateway.launcher.stack import Stack, plan
from gateway.launcher.supervisor import Supervisor
from gateway.settings import GatewaySettings


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(data_dir=tmp_path, port=0)


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


def test_no_secret_is_in_a_command_line(settings: GatewaySettings) -> None:
    stack = plan(settings, {})
    secrets = [
        stack.programs[-1].environment["GENPLAT_LOGIN_TOKEN"],
        stack.programs[-1].environment["GENPLAT_INTERNAL_TOKEN"],
        Redis.from_url(stack.redis_url).connection_pool.connection_kwargs["password"],
    ]
    words = " ".join(" ".join(program.command) for program in stack.programs)
    assert not any(secret in words for secret in secrets)


def test_a_redis_of_ones_own_replaces_valkey(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, redis_url="redis://:pw@127.0.0.1:6399/0")
    stack = plan(settings, {})
    assert [program.name for program in stack.programs] == ["inference", "trainer", "gateway"]
    assert stack.redis_url == "redis://:pw@127.0.0.1:6399/0"


@pytest.mark.parametrize(
    ("host", "reachable"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("box", "box")]
)
def test_the_link_names_an_address_that_can_be_opened(
    tmp_path: Path, host: str, reachable: str
) -> None:
    stack = plan(GatewaySettings(data_dir=tmp_path, host=host, port=8123), {})
    assert stack.url == f"http://{reachable}:8123"


@pytest.fixture
def queue(settings: GatewaySettings, tmp_path: Path) -> Iterator[Stack]:
    stack = plan(settings, os.environ)
    log = MergedLog(tmp_path / "logs", None)
    supervisor = Supervisor(log)
    supervisor.start(stack.programs[:1])
    yield stack
    supervisor.stop()
    log.close()


def test_the_services_may_use_their_keys_and_nothing_else(queue: Stack, tmp_path: Path) -> None:
    with Redis.from_url(queue.redis_url) as redis:
        redis.set("genplat:cancel:run_1", 1)
        redis.zadd("genplat:queue", {"job": 1})
        for forbidden in ("FLUSHALL", "CONFIG GET *", "EVAL return 0", "SET other 1", "KEYS *"):
            with pytest.raises(RedisError):
                redis.execute_command(*forbidden.split())
    wrong = queue.redis_url.replace("genplat:", "genplat:x", 1)
    with Redis.from_url(wrong) as stranger, pytest.raises(RedisError):
        stranger.ping()
    assert queue.queue_admin_url is not None
    with Redis.from_url(queue.queue_admin_url) as admin:
        admin.flushall()
    assert (tmp_path / "valkey").stat().st_mode & 0o777 == 0o700
