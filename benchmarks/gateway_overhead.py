"""B9: what the gateway adds to a request to a service LLM, beside other proxies in the same run.

A mock upstream answers at once; each proxy stands before it in turn, with 1, 16 and 64 requests in
flight, and then with streams of 128 chunks. GenPlat with a key, limits and a route.

    python -m benchmarks.gateway_overhead [--seconds 5] [--rounds 3] [--litellm PATH/TO/litellm]
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.mock_llm import CHUNKS
from tests.valkey import free_port, running_valkey

IN_FLIGHT = (1, 16, 64)
KEY = "gp-benchmark-benchmark-benchmark"
MESSAGES = [{"role": "user", "content": "Say something of some words, please."}]
STREAMS = 8


@dataclass(frozen=True)
class Peer:
    """A proxy that runs: where, its processes, and the model's name there."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    model: str = "mock"
    key: str = KEY


@dataclass(frozen=True)
class Load:
    """Requests a second, and milliseconds of the median and the 99th percentile."""

    rate: float
    p50: float
    p99: float


async def _ask(peer: Peer, until: float, found: list[float]) -> None:
    """One after the other over one connection, until the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
    request = _request(peer, stream=False)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{peer.name}: {head[:200]!r}")
        await reader.readexactly(_length(head))
        found.append(time.perf_counter() - began)
    writer.close()


def _request(peer: Peer, *, stream: bool) -> bytes:
    body = {"model": peer.model, "messages": MESSAGES, "max_tokens": 32}
    raw = json.dumps(body | ({"stream": True} if stream else {})).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{peer.port}\r\n"
        f"authorization: Bearer {peer.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise SystemExit("an answer without a length")


async def load(peer: Peer, in_flight: int, seconds: float) -> Load:
    found: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_ask(peer, began + seconds, found) for _ in range(in_flight)))
    took = time.perf_counter() - began
    ordered = sorted(found)
    p99 = ordered[int(len(ordered) * 0.99) - 1]
    return Load(len(found) / took, 1000 * statistics.median(found), 1000 * p99)


async def _stream(peer: Peer) -> int:
    """The events of one streamed answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
    writer.write(_request(peer, stream=True))
    raw = b""
    while b"0\r\n\r\n" not in raw[-20:]:
        piece = await reader.read(65536)
        if not piece:
            break
        raw += piece
    writer.close()
    return raw.count(b"data: {")


async def streams(peer: Peer, seconds: float) -> tuple[float, float]:
    """Events that an answer has, and the proxy's CPU seconds for a thousand of them."""
    events, answers = 0, 0
    cpu, until = cpu_seconds(peer.process.pid), time.perf_counter() + seconds
    while time.perf_counter() < until:
        counts = await asyncio.gather(*(_stream(peer) for _ in range(STREAMS)))
        events += sum(counts)
        answers += len(counts)
    return events / answers, 1000 * (cpu_seconds(peer.process.pid) - cpu) / events


def cpu_seconds(process_id: int) -> float:
    """Of a process and its children."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(stat.parent.name) == process_id or int(fields[1]) == process_id:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(command: Sequence[str], port: int, **environment: str) -> Iterator[Any]:
    """A proxy from when it answers anything."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(harness.ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2)
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not start") from None
                time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def mock() -> Iterator[Peer]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.mock_llm", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(harness.ROOT)})
    time.sleep(1)
    try:
        yield Peer("direct", port, process)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def genplat(folder: Path, upstream: str) -> Iterator[Peer]:
    """The gateway alone, with a key that has limits and a route over the upstream."""
    port = free_port()
    file = folder / "upstreams.yaml"
    file.write_text(f"upstreams: [{{name: mock, base_url: '{upstream}', model: mock}}]\n")
    command = [sys.executable, "-m", "gateway.app", "--port", str(port)]
    with running_valkey(folder) as valkey:
        environment = {
            "GENPLAT_DATA_DIR": str(folder / "data"),
            "GENPLAT_REDIS_URL": valkey.url,
            "GENPLAT_ADMIN_KEY": KEY,
            "GENPLAT_UPSTREAMS_FILE": str(file),
            "GENPLAT_PREPARE_BUNDLED_MODEL": "false",
        }
        with running(command, port, **environment) as process:
            route = {"name": "mock", "targets": [{"upstream": "mock"}]}
            _post(port, "/api/routes", route)
            limits = {"requests_per_minute": 10**9, "tokens_per_minute": 10**9}
            made = _post(port, "/api/keys", {"name": "b", "scopes": ["infer"]} | limits)
            yield Peer("GenPlat", port, process, key=made["key"])


def _post(port: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        made: dict[str, Any] = json.load(answer)
    return made


@contextlib.contextmanager
def naive(folder: Path, upstream: str) -> Iterator[Peer]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.naive_proxy:app", "--port", str(port)]
    with running([*command, "--log-level", "warning"], port, UPSTREAM=upstream) as process:
        yield Peer("FastAPI + httpx", port, process)


@contextlib.contextmanager
def litellm(folder: Path, upstream: str, program: str) -> Iterator[Peer]:
    port = free_port()
    file = folder / "litellm.yaml"
    file.write_text(
        "model_list:\n  - model_name: mock\n    litellm_params:\n"
        f"      {{model: openai/mock, api_base: '{upstream}', api_key: none}}\n"
        f"general_settings: {{master_key: 'sk-{KEY}'}}\n"
    )
    command = [program, "--config", str(file), "--port", str(port), "--num_workers", "1"]
    with running(command, port, LITELLM_LOG="ERROR") as process:
        yield Peer("LiteLLM", port, process, key=f"sk-{KEY}")


def measure(peer: Peer, seconds: float) -> dict[str, float]:
    asyncio.run(load(peer, 4, 1))
    said: dict[str, float] = {}
    for in_flight in IN_FLIGHT:
        found = asyncio.run(load(peer, in_flight, seconds))
        said |= {f"rate {in_flight}": found.rate, f"p50 {in_flight}": found.p50}
        said[f"p99 {in_flight}"] = found.p99
    said["chunks"], said["cpu"] = asyncio.run(streams(peer, seconds))
    return said


def report(found: dict[str, list[dict[str, float]]]) -> None:
    middle = {
        name: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }
    direct = middle["direct"]
    print("\n| | added p50, c=1 | requests/s, c=1 | c=16 | c=64 | p99, c=64 | CPU ms a chunk |")
    print("|-|-|-|-|-|-|-|")
    for name, said in middle.items():
        print(
            f"| {name} | {said['p50 1'] - direct['p50 1']:.2f} ms | {said['rate 1']:.0f} "
            f"| {said['rate 16']:.0f} | {said['rate 64']:.0f} | {said['p99 64']:.0f} ms "
            f"| {said['cpu']:.3f} ({said['chunks']:.0f} of {CHUNKS} chunks) |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--litellm", default="", help="the program of a LiteLLM proxy")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    with mock() as direct, tempfile.TemporaryDirectory() as folder:
        upstream = f"http://127.0.0.1:{direct.port}/v1"
        for number in range(1, options.rounds + 1):
            for place, make in enumerate((genplat, naive, litellm)):
                if make is litellm and not options.litellm:
                    continue
                own = Path(folder) / f"{number}-{place}"
                own.mkdir()
                more = (options.litellm,) if make is litellm else ()
                with make(own, upstream, *more) as peer:
                    said = measure(peer, options.seconds)
                found.setdefault(peer.name, []).append(said)
                print(number, peer.name, {k: round(v, 3) for k, v in said.items()}, flush=True)
            found.setdefault("direct", []).append(measure(direct, options.seconds))
    report(found)


if __name__ == "__main__":
    main()
