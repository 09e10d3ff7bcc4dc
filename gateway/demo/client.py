"""A small client of the public REST API, as any user could write it; knows no database."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from gateway.launcher.problems import LaunchProblem

Json = dict[str, Any]
_POLL_SECONDS = 0.5
_BUSY_TRIES = 100


class DemoFailed(LaunchProblem):
    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)


class Client:
    """Requests with a key. An answer that is an error ends the demo with its message."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(30, read=600),
            limits=httpx.Limits(max_connections=64),
            trust_env=False,
        )

    def close(self) -> None:
        self.http.close()

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The answer; a service that is busy is asked again when it says."""
        for _ in range(_BUSY_TRIES):
            response = self._send(method, path, **arguments)
            if response.status_code not in (429, 503):
                break
            time.sleep(min(float(response.headers.get("retry-after", 1)), 10))
        return response

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self.http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path} got no answer ({error}).") from error

    def ask(self, method: str, path: str, **arguments: Any) -> Json:
        response = self.request(method, path, **arguments)
        if response.is_error:
            raise DemoFailed(f"{method} {path}: {error_message(response)}")
        answer: Json = response.json() if response.content else {}
        return answer

    def poll(self, path: str, done: Callable[[Json], bool], seconds: float) -> Json:
        """GET ``path`` until ``done`` says so."""
        deadline = time.monotonic() + seconds
        while not done(answer := self.ask("GET", path)):
            if time.monotonic() > deadline:
                raise DemoFailed(f"{path} is not done after {seconds:.0f} s: {answer}")
            time.sleep(_POLL_SECONDS)
        return answer

    def events(self, path: str) -> Iterator[tuple[str, Json]]:
        """Server-sent events as (name, data); goes on after a broken connection."""
        last_id = ""
        for _ in range(_BUSY_TRIES):
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with self.http.stream("GET", path, headers=headers) as response:
                    if response.is_error:
                        response.read()
                        raise DemoFailed(f"GET {path}: {error_message(response)}")
                    for name, data, last_id in parse_events(response.iter_lines()):  # noqa: B007
                        yield name, data
                return
            except httpx.TransportError:
                time.sleep(_POLL_SECONDS)
        raise DemoFailed(f"GET {path} breaks off again and again.")


def error_message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def parse_events(lines: Iterator[str]) -> Iterator[tuple[str, Json, str]]:
    """(name, JSON data, id) of every event in a text/event-stream."""
    name, data, event_id = "message", "", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield name, json.loads(data), event_id
            name, data = "message", ""
        elif field == "event":
            name = value
        elif field == "data":
            data += value + "\n"
        elif field == "id":
            event_id = value
