"""What the launcher asks the programs that it started: whether they are ready, and can draw."""

from collections.abc import Callable
from ipaddress import ip_address

import httpx
from redis import Redis, RedisError

# A renderer is warm by then; a PlantUML server of the user's own may be far away.
DRAWING_SECONDS = 10
_DIAGRAM = "@startuml\nA -> B\n@enduml"


def reachable(host: str) -> str:
    """What stands in addresses under which this machine reaches what listens on ``host``."""
    try:
        address = ip_address(host or "0.0.0.0")  # noqa: S104
    except ValueError:
        return host
    if address.version == 4:
        return "127.0.0.1" if address.is_unspecified else host
    # The server's IPv6 sockets take no IPv4.
    return "[::1]" if address.is_unspecified else f"[{address.compressed}]"


def answers(url: str) -> Callable[[], bool]:
    def is_ready() -> bool:
        try:
            return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return is_ready


def answers_ping(redis_url: str) -> bool:
    try:
        with Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def diagram_problem(inference_url: str, token: str) -> str | None:
    """Why no diagram can be drawn, in the inference service's words; None where one was."""
    try:
        answer = httpx.post(
            f"{inference_url}/diagrams",
            json={"source": _DIAGRAM},
            headers={"Authorization": f"Bearer {token}"},
            timeout=DRAWING_SECONDS,
            trust_env=False,
        )
    except httpx.HTTPError:
        return "The inference service does not answer."
    if answer.is_success:
        return None
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"It answers {answer.status_code}."
