"""A small client of the public REST API, as any user could write it; knows no database."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from gateway.launcher.problems import LaunchProblem

Json = dict[str, Any]
Event = tuple[str, Json]
_BUSY = (429, 503)
# What a proxy says while the gateway is being started again, too.
_AWAY = (*_BUSY, 502, 504)
_POLL_SECONDS = 0.5
_BUSY_TRIES = 100
_AWAY_TRIES = 60


class CommandFailed(LaunchProblem):
    """What a command wanted of the platform could not be had."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)


class Client:
    """Requests with a key. An answer that is an error ends the command with its message. Under the
    same ``once``, a request that creates something is answered as it was the first time."""

    def __init__(self, url: str, key: str, *, once: str = "") -> None:
        self.url = url
        self._once = once
        self._answered = False
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
        """The answer; a service that is busy is asked again when it says, and one that is away is
        waited for: it was there before, and may be being started again."""
        away = 0
        for _ in range(_BUSY_TRIES):
            try:
                response = self._send(method, path, **arguments)
            except httpx.HTTPError as error:
                away += 1
                if method != "GET" or not self._answered or away > _AWAY_TRIES:
                    raise CommandFailed(f"{method} {path} got no answer ({error}).") from error
                time.sleep(_POLL_SECONDS)
                continue
            self._answered = True
            if response.status_code not in _BUSY:
                break
            time.sleep(min(float(response.headers.get("retry-after", 1)), 10))
        return response

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if self._once and method == "POST" and "json" in arguments:
            what = f"{self._once} {path} {json.dumps(arguments['json'], sort_keys=True)}"
            digest = hashlib.sha256(what.encode()).hexdigest()
            arguments = {"headers": {"Idempotency-Key": f"once-{digest}"}} | arguments
        return self.http.request(method, path, **arguments)

    def ask(self, method: str, path: str, **arguments: Any) -> Json:
        response = self.request(method, path, **arguments)
        if response.is_error:
            raise CommandFailed(f"{method} {path}: {error_message(response)}")
        answer: Json = response.json() if response.content else {}
        return answer

    def download(self, path: str, target: Path) -> None:
        """Write what ``path`` answers to a file, however large it is."""
        try:
            with self.http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                    raise CommandFailed(f"GET {path}: {error_message(response)}")
                with target.open("wb") as out:
                    for block in response.iter_bytes():
                        out.write(block)
        except httpx.HTTPError as error:
            raise CommandFailed(f"GET {path} got no answer ({error}).") from error

    def poll(self, path: str, done: Callable[[Json], bool], seconds: float) -> Json:
        """GET ``path`` until ``done`` says so."""
        deadline = time.monotonic() + seconds
        while not done(answer := self.ask("GET", path)):
            if time.monotonic() > deadline:
                raise CommandFailed(f"{path} is not done after {seconds:.0f} s: {answer}")
            time.sleep(_POLL_SECONDS)
        return answer

    def events(self, path: str, *, ended: Callable[[str, Json], bool]) -> Iterator[Event]:
        """Server-sent events up to the one that ``ended`` knows as the last. A stream that breaks
        off, or ends before that, is taken up behind the last event that came."""
        last_id, failures = "", 0
        while failures < _BUSY_TRIES:
            try:
                for name, data, event_id in self._stream(path, last_id):
                    failures, last_id = 0, event_id
                    yield name, data
                    if ended(name, data):
                        return
            except httpx.TransportError:
                pass  # The gateway is being started again, or the network is away.
            failures += 1
            time.sleep(_POLL_SECONDS)
        raise CommandFailed(f"GET {path} breaks off again and again.")

    def _stream(self, path: str, last_id: str) -> Iterator[tuple[str, Json, str]]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        with self.http.stream("GET", path, headers=headers) as response:
            if response.status_code in _AWAY:
                return
            if response.is_error:
                response.read()
                raise CommandFailed(f"GET {path}: {error_message(response)}")
            yield from parse_events(response.iter_lines())


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
