"""A stack for scenarios, checked after each of them; recovery times at the end of the report."""

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.invariants import check
from tests.chaos.stack import Stack, running_stack
from tests.chaos.times import TIMES

_FAILED = pytest.StashKey[bool]()
_recovered: defaultdict[str, list[float]] = defaultdict(list)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform != "linux":
        skip = pytest.mark.skip(reason="looks at processes through /proc, which only Linux has")
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


class Shared:
    """One stack for many scenarios, as long as all goes well: the next one after a failure starts
    with another."""

    def __init__(self, folder: Path, *, trainers: int, inference: bool = False) -> None:
        self.folder = folder
        self.trainers = trainers
        self.inference = inference
        self.count = 0
        self.life = ExitStack()
        self.stack: Stack | None = None

    def get(self) -> Stack:
        if self.stack is None:
            self.count += 1
            made = running_stack(
                self.folder / f"stack-{self.count}",
                trainers=self.trainers,
                inference=self.inference,
            )
            self.stack = self.life.enter_context(made)
        return self.stack

    def drop(self) -> None:
        self.stack = None
        self.life.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(tmp_path_factory.mktemp("chaos"), trainers=1)
    yield made
    made.drop()


@pytest.fixture
def stack(request: pytest.FixtureRequest, shared: Shared) -> Iterator[Stack]:
    """A running stack of one trainer. After the scenario everything is made whole again, and then
    all invariants must hold."""
    yield from scenario(request, shared)


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(tmp_path_factory.mktemp("chaos"), trainers=2)
    yield made
    made.drop()


@pytest.fixture
def pair(request: pytest.FixtureRequest, shared_pair: Shared) -> Iterator[Stack]:
    """The same with two trainers."""
    yield from scenario(request, shared_pair)


def scenario(request: pytest.FixtureRequest, shared: Shared) -> Iterator[Stack]:
    stack = shared.get()
    try:
        yield stack
        if request.node.stash.get(_FAILED, False):
            shared.drop()
        else:
            stack.rest()
            check(stack)
    except BaseException:
        shared.drop()
        raise


@pytest.fixture
def recovery() -> Callable[[str, float], None]:
    """Notes how many seconds the recovery from a fault took."""

    def note(fault: str, seconds: float) -> None:
        _recovered[fault].append(seconds)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _recovered:
        return
    terminalreporter.section(f"recovery times in seconds, at {TIMES:g} of the real times")
    for fault, seconds in sorted(_recovered.items()):
        terminalreporter.write_line(
            f"{fault:40} rounds {len(seconds):3}   p50 {statistics.median(seconds):6.1f}   "
            f"max {max(seconds):6.1f}"
        )
