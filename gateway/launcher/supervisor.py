"""Keeps programs running: starts them, restarts what dies, stops all. Knows no service."""

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.launcher.logs import MergedLog
from gateway.launcher.problems import LaunchProblem
from gateway.launcher.processes import descendants, kill_group, kill_survivors, spawn

_LAST_WORDS = 15


@dataclass(frozen=True)
class Program:
    """What to run. ``is_ready`` is asked until it says yes; ``stop_last`` outlives the others."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    stdin: bytes | None = None
    stop_last: bool = False


@dataclass(frozen=True)
class Patience:
    """All times in seconds. A restart waits ``first_wait``, then twice as long each time, at most
    ``longest_wait``; a program that lived for ``healthy`` starts anew at ``first_wait``."""

    first_wait: float = 1
    longest_wait: float = 30
    healthy: float = 60
    start: float = 300
    tries_at_start: int = 3
    grace: float = 7
    last_grace: float = 2


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    deaths: int = 0
    started: float = 0
    due: float = 0
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_WORDS))

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Runs from one thread; `request_stop` may be called from any, or from a signal handler."""

    def __init__(self, log: MergedLog, patience: Patience | None = None) -> None:
        self.log = log
        self.patience = patience or Patience()
        self.children: list[_Child] = []
        self.stopping = threading.Event()
        self._hurry = False

    @property
    def process_ids(self) -> set[int]:
        return {child.process.pid for child in self.children if child.process is not None}

    def request_stop(self) -> None:
        """The first time: stop in good order. The second time: kill."""
        self._hurry = self.stopping.is_set()
        self.stopping.set()

    def start(self, programs: Iterable[Program]) -> None:
        """Start the programs and wait until all of them are ready, or a stop is requested."""
        came_up = self.begin(programs)
        while not self.stopping.is_set() and not came_up():
            self.stopping.wait(0.1)

    def begin(self, programs: Iterable[Program]) -> Callable[[], bool]:
        """The same for who waits in ways of their own: what comes back starts the programs, and
        says whether all are ready, each time that it is called."""
        fresh = [_Child(program) for program in programs]
        self.children += fresh
        deadline = time.monotonic() + self.patience.start

        def came_up() -> bool:
            self.tick()
            for child in fresh:
                child.ready = child.ready or (child.alive() and child.program.is_ready())
            waiting = [child for child in fresh if not child.ready]
            self._check_progress(waiting, deadline)
            return not waiting

        return came_up

    def _check_progress(self, waiting: list[_Child], deadline: float) -> None:
        late = time.monotonic() > deadline
        for child in waiting:
            if late or child.deaths >= self.patience.tries_at_start:
                why = "is not ready yet" if late else f"ended {child.deaths} times at its start"
                words = "\n  ".join(child.last_words)
                raise LaunchProblem(
                    f"{child.program.name} {why}. Its last lines (more in {self.log.path}):"
                    f"\n  {words}",
                    exit_code=1,
                )

    def tick(self) -> None:
        """Start what is due; note what has died."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.due:
                    self._spawn(child)
            elif (code := child.process.poll()) is not None:
                self._bury(child, child.process, code)

    def _spawn(self, child: _Child) -> None:
        def on_line(line: str) -> None:
            child.last_words.append(line.rstrip())
            self.log.write(child.program.name, line)

        program = child.program
        child.started = time.monotonic()
        child.process = spawn(
            program.command,
            environment=program.environment,
            on_line=on_line,
            stdin=program.stdin,
        )

    def _bury(self, child: _Child, process: subprocess.Popen[bytes], code: int) -> None:
        kill_group(process)
        child.process = None
        now = time.monotonic()
        if now - child.started >= self.patience.healthy:
            child.deaths = 0
        wait = min(self.patience.first_wait * 2**child.deaths, self.patience.longest_wait)
        child.deaths += 1
        child.due = now + wait
        self.log.write("genplat", f"{child.program.name} {_describe(code)}; again in {wait:g} s")

    def watch(self, *, each_turn: Callable[[], None] = lambda: None) -> None:
        """Keep everything running until a stop is requested."""
        while not self.stopping.wait(0.2):
            self.tick()
            each_turn()

    def stop(self) -> None:
        """End all programs: politely, then by force; those marked ``stop_last`` after the rest."""
        self.stopping.set()
        first = [child for child in self.children if not child.program.stop_last]
        last = [child for child in self.children if child.program.stop_last]
        self._end(first, self.patience.grace)
        self._end(last, self.patience.last_grace)

    def _end(self, children: list[_Child], grace: float) -> None:
        processes = [child.process for child in children if child.process is not None]
        family = descendants(process.pid for process in processes)
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while any(process.poll() is None for process in processes):
            if self._hurry or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        family |= descendants(process.pid for process in processes)
        for process in processes:
            kill_group(process)
            process.wait()
        kill_survivors(family)


def _describe(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
