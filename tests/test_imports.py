"""Who may import whom: the contracts of pyproject.toml, and what is really loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_contracts_hold() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stdout + result.stderr


# These run in processes of their own or are loaded where they are needed first: with them come
# numpy and pyarrow.
APART = (
    ".parquet_process",
    ".scoring_process",
    ".evaluations.metrics.",
    ".evaluations.statistics",
    ".evaluations.summary",
    ".synthesis.clusters",
)
LOADED = """
import importlib, os, pkgutil, sys
APART = os.environ["APART"].split()
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        if ".migrations." not in found.name and not any(part in found.name for part in APART):
            importlib.import_module(found.name)
print(*sorted({"torch", "transformers", "peft", "numpy", "pyarrow"} & set(sys.modules)))
"""


def loaded_by(*packages: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", LOADED, *packages],
        cwd=ROOT,
        env={**os.environ, "PYTHONSAFEPATH": "1", "APART": " ".join(APART)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("package", ["shared", "ui", "gateway"])
def test_no_module_of_the_web_side_loads_a_machine_learning_library(package: str) -> None:
    assert loaded_by(package) == ""
