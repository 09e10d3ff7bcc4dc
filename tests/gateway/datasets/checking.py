"""What the tests of files share."""

from collections.abc import Callable

from gateway.datasets.canonical import Checked
from shared.errors import GenPlatError

Check = Callable[..., Checked]
HEADER = b"text,target\n"
COLUMNS = ("text_column", "target_column", "system_column")


def assert_says(error: GenPlatError, code: str, line: int | None) -> None:
    assert (error.status, error.code, error.param) == (422, code, "file")
    assert error.details[0]["line"] == line
    assert {"line", "column", "message"} <= set(error.details[0])
    assert error.details[0]["message"].endswith(".")
    assert len(error.message) < 500
