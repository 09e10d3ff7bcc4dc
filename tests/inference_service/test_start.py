"""What the service's process sets before torch is there to read it."""

import os
import subprocess
import sys

import pytest

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
