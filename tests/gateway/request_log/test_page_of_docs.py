"""docs/requests.md says what the code does."""

import inspect
import re
from pathlib import Path

from gateway.request_log import masking
from gateway.request_log.entries import MAX_CHARACTERS
from gateway.request_log.queries import RequestFilter
from gateway.request_log.writer import MAX_WAITING
from gateway.settings import GatewaySettings

PAGE = (Path(__file__).parents[3] / "docs" / "requests.md").read_text("utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_everything_that_is_masked_is_told() -> None:
    told = {word for row in ROWS for word in words(row[0]) if word.startswith("[")}
    assert told == set(re.findall(r'"(\[\w+\])"', inspect.getsource(masking)))


def test_every_field_of_the_filter_is_told() -> None:
    told = {word for row in ROWS for word in words(row[0])}
    assert set(RequestFilter.model_fields) <= told


def test_settings_stand_there_with_their_defaults() -> None:
    defaults = {words(row[0])[0]: row[1].strip() for row in ROWS if "GENPLAT_" in row[0]}
    settings = GatewaySettings.model_fields
    assert defaults == {
        "GENPLAT_REQUEST_LOG": f"`{settings['request_log'].default}`",
        "GENPLAT_REQUEST_LOG_MASKS": f"`{str(settings['request_log_masks'].default).lower()}`",
        "GENPLAT_REQUEST_LOG_DAYS": f"{settings['request_log_days'].default:g}",
    }
    assert f"{MAX_CHARACTERS:,} characters" in PAGE and f"{MAX_WAITING:,} requests" in PAGE
