"""The service's process at its start: what it sets before torch is there to read it, and what it
says of settings that it cannot read."""

import os
import subprocess
import sys

import pytest

from shared.settings import WRONG_SETTINGS

SHOW = """
import os, sys, inference_service
print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "kept"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")]
)
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(
    given: dict[str, str], kept: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [kept, "False"]


@pytest.mark.parametrize("module", ["inference_service.app", "inference_service.settings"])
def test_settings_that_cannot_be_read_are_a_line_each_and_no_traceback(module: str) -> None:
    wrong = {"GENPLAT_MAX_ROWS": "x", "GENPLAT_RENDER_CACHE_ENTRIES": "-1"}
    ended = subprocess.run(
        [sys.executable, "-m", module],
        env={**os.environ, **wrong},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == WRONG_SETTINGS
    for line, name in zip(ended.stderr.splitlines(), wrong, strict=True):
        assert line.startswith(f"genplat: {name}: Input should be")
