"""Tests see neither the settings of the person who runs them nor that person's GPU nor shell."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest

KEPT = "GENPLAT_CHROMIUM"

# Before anything is imported: an exported GENPLAT_DATABASE_URL would be migrated and filled by the
# tests, with keys that everybody can read here.
for _name in [name for name in os.environ if name.startswith("GENPLAT_") and name != KEPT]:
    del os.environ[_name]
# A test's data folder is small, and there are many.
os.environ["GENPLAT_DISK_RESERVE_BYTES"] = "0"
# Answers and losses are compared with those of a CPU; `make gpu-test` alone wants the GPU.
if os.environ.get("GPU_TEST") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# A shell has what it starts in the background ignore interrupts, and that is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs_end_with_their_test() -> Iterator[None]:
    """A program that runs inside of a test logs to that test's stderr, which is closed then."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in [one for one in root.handlers if type(one) is logging.StreamHandler]:
        if handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)
