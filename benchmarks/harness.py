"""Runs peers side by side: each in a fresh process, in turn, round after round; knows no model.

A peer is a function ``module:name`` that takes a dict of JSON and returns one. The clock and the
memory are taken from outside of it; what it says itself of its steady part comes along.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MISSING = 77
ROOT = Path(__file__).resolve().parent.parent


class Missing(Exception):
    """A peer that is not installed here."""


@dataclass(frozen=True)
class Outcome:
    """One peer in one round: seconds of its whole process, its highest resident memory in bytes,
    and what it returned."""

    seconds: float
    peak_bytes: int
    said: dict[str, Any]


def run_peer(function: str, arguments: Mapping[str, Any]) -> Outcome | None:
    """``function`` in a process of its own; None, said aloud, where its library is missing."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [sys.executable, "-m", "benchmarks.harness", function, json.dumps(dict(arguments))]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    seconds = time.perf_counter() - began
    if code == MISSING:
        print(f"  SKIP {function}: {said.strip().splitlines()[-1]}", flush=True)
        return None
    if code != 0:
        raise SystemExit(f"{function} ended with {code}")
    unit = 1 if platform.system() == "Darwin" else 1024
    return Outcome(seconds, usage.ru_maxrss * unit, json.loads(said.strip().splitlines()[-1]))


def run_rounds(
    peers: Mapping[str, str], arguments: Mapping[str, Any], *, rounds: int, show: Sequence[str]
) -> dict[str, list[Outcome]]:
    """Every peer once a round, in turn, so that a machine that slows down slows them all down."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in peers}
    for number in range(1, rounds + 1):
        for name, function in peers.items():
            outcome = run_peer(function, arguments)
            if outcome is None:
                continue
            outcomes[name].append(outcome)
            figures = "  ".join(f"{key} {outcome.said[key]:.4g}" for key in show)
            print(
                f"  round {number}  {name:<28} {figures}  peak {outcome.peak_bytes / 1e9:.2f} GB  "
                f"whole process {outcome.seconds:.0f} s",
                flush=True,
            )
    return {name: found for name, found in outcomes.items() if found}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and greatest of ``ours / theirs``, round by round."""
    found = [own / other for own, other in zip(ours, theirs, strict=True)]
    return statistics.median(found), min(found), max(found)


def median_of(outcomes: Sequence[Outcome], key: str) -> float:
    return statistics.median(float(outcome.said[key]) for outcome in outcomes)


def peak_of(outcomes: Sequence[Outcome]) -> float:
    return statistics.median(outcome.peak_bytes for outcome in outcomes)


def machine() -> str:
    """What the figures were measured on, in a line."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = found[0].partition(":")[2].strip() if found else name
    return (
        f"{name}, {len(os.sched_getaffinity(0))} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    )


def sgemm_gflops(size: int = 2048, repeats: int = 5) -> float:
    """Billions of floating-point operations a second of a square fp32 product, all threads."""
    import torch

    left, right = torch.randn(size, size), torch.randn(size, size)
    left @ right
    best = min(_seconds(lambda: left @ right) for _ in range(repeats))
    return 2 * size**3 / best / 1e9


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def parser(description: str | None, *, rounds: int = 3) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--json", type=Path, help="write all figures there too")
    made.add_argument("--only", nargs="*", default=[], help="names of peers; all where none")
    return made


def chosen(peers: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    if unknown := set(names) - set(peers):
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))} (there are {list(peers)})")
    return {name: peer for name, peer in peers.items() if not names or name in names}


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """The child's side: call the peer, and say what it returned as the last line."""
    module, _, name = sys.argv[1].partition(":")
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        said = getattr(importlib.import_module(module), name)(json.loads(sys.argv[2]))
    except Missing as missing:
        stdout.write(f"{missing}\n")
        stdout.flush()
        sys.exit(MISSING)
    stdout.write(json.dumps(said) + "\n")
    stdout.flush()
    # Libraries hang now and then while they tidy up.
    os._exit(0)


if __name__ == "__main__":
    main()
