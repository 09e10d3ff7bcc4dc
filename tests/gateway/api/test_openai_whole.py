"""OpenAI's unmodified client against the whole platform: a model is really trained, and answers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.model_library import BUNDLED_MODEL
from tests.e2e.stack import ADMIN_KEY, running_stack
from tests.trainer_service.tiny import TINY_MODEL

ROOT = Path(__file__).parents[3]
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_example_of_the_docs_works_as_it_is(tmp_path: Path) -> None:
    found = EXAMPLE.search((ROOT / "docs" / "openai.md").read_text(encoding="utf-8"))
    assert found is not None
    program = found[1].replace(BUNDLED_MODEL, TINY_MODEL)
    assert program != found[1]
    with running_stack(tmp_path / "data") as stack:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=ROOT,
            env=os.environ | {"GENPLAT_URL": stack.url, "GENPLAT_API_KEY": ADMIN_KEY},
            capture_output=True,
            text=True,
            timeout=400,
        )
    assert done.returncode == 0, done.stderr
    assert "succeeded The job has successfully completed" in done.stdout
    assert re.search(r"^\d+,\d+\.\d+,", done.stdout, re.MULTILINE), "no line of the result file"
