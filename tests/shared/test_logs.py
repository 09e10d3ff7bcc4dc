"""One record, one line: whatever a message holds, nobody forges a line of the log."""

import contextvars
import json
import logging
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import request_id
from shared.logs import JsonFormatter, TextFormatter

FORGED = "2026-01-01T00:00:00Z ERROR   gateway.auth The key of admin was stolen."
# All that some reader of a log takes for a line's end, and what moves a terminal's cursor.
BREAKS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
CONTROLS = ["\x00", "\x07", "\x08", "\x1b[2K\x1b[1G", "\x7f", "\x9b2K", "\x9d0;title\x9c"]


def record(
    message: str, *arguments: object, error: BaseException | None = None
) -> logging.LogRecord:
    exception = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("gateway.test", logging.INFO, "a.py", 1, message, arguments, exception)
    made.created = 1_700_000_000.25
    return made


def raised(message: str) -> ValueError:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def test_a_line_has_time_level_logger_and_message() -> None:
    line = TextFormatter().format(record("Run %s: %d steps.", "run_ü", 7))
    assert line == "2023-11-14T22:13:20Z INFO    gateway.test Run run_ü: 7 steps."


@pytest.mark.parametrize("control", [*BREAKS, *CONTROLS])
@pytest.mark.parametrize("as_argument", [False, True])
def test_a_message_stays_on_its_line(control: str, as_argument: bool) -> None:
    text = f"name{control}{FORGED}"
    line = TextFormatter().format(record("%s", text) if as_argument else record(text))
    assert line.isprintable()
    assert line.splitlines() == [line]
    assert line.startswith("2023-11-14T22:13:20Z INFO    gateway.test name\\")
    assert line.endswith(FORGED)


@pytest.mark.parametrize("control", [*BREAKS, *CONTROLS])
def test_a_traceback_looks_like_no_other_line(control: str) -> None:
    error = raised(f"name{control}{FORGED}")
    first, *rest = TextFormatter().format(record("It failed.", error=error)).splitlines()
    assert first == "2023-11-14T22:13:20Z INFO    gateway.test It failed."
    assert "Traceback (most recent call last):" in rest[0]
    assert any("ValueError: name" in line for line in rest) and FORGED in rest[-1]
    for line in rest:
        # Its lines are indented: a record begins where its time does.
        assert line.startswith("  ") and line.isprintable()


@pytest.mark.parametrize("control", [*BREAKS, *CONTROLS, "\ud800", '"}\n{"level": "ERROR'])
def test_the_json_form_is_one_object_a_line(control: str) -> None:
    text = f"name{control}{FORGED}"
    line = JsonFormatter().format(record("%s", text, error=raised(text)))
    assert line.isascii() and line.isprintable()
    entry = json.loads(line)
    assert {name: entry[name] for name in ("time", "level", "logger", "message")} == {
        "time": 1_700_000_000.25,
        "level": "INFO",
        "logger": "gateway.test",
        "message": text,
    }
    assert entry["exception"].startswith("Traceback") and entry["exception"].endswith(text)
    assert "exception" not in json.loads(JsonFormatter().format(record("All is well.")))


def in_a_request(asked: str, made: logging.LogRecord) -> tuple[str, str, str]:
    """The id, and the record in both forms."""

    def work() -> tuple[str, str, str]:
        name = request_id.begin(asked)
        return name, TextFormatter().format(made), JsonFormatter().format(made)

    return contextvars.copy_context().run(work)


def test_a_line_tells_the_request_that_it_is_about() -> None:
    name, text, as_json = in_a_request("mine-1.2_3", record("It failed."))
    assert name == "mine-1.2_3"
    assert text == "2023-11-14T22:13:20Z INFO    gateway.test [mine-1.2_3] It failed."
    assert json.loads(as_json)["request_id"] == "mine-1.2_3"
    assert request_id.current() is None and request_id.headers() == {}
    assert "request_id" not in json.loads(JsonFormatter().format(record("It failed.")))


def test_a_record_may_be_about_another_request_than_the_one_at_work() -> None:
    made = record("It failed.")
    made.request_id = "another"
    _, text, as_json = in_a_request("mine", made)
    assert "[another]" in text and "mine" not in text
    assert json.loads(as_json)["request_id"] == "another"


@pytest.mark.parametrize("control", [*BREAKS, *CONTROLS, " ", "[", "]", '"'])
def test_no_id_forges_a_line(control: str) -> None:
    name, text, as_json = in_a_request(f"mine{control}{FORGED[:20]}", record("x"))
    assert re.fullmatch(r"req_[0-9a-f]{24}", name)
    assert f"[{name}] x" in text and "mine" not in text
    assert json.loads(as_json)["request_id"] == name


@given(st.text(max_size=80))
def test_whatever_is_asked_for_an_id_is_a_word(asked: str) -> None:
    name, text, _ = in_a_request(asked, record("x"))
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name, re.ASCII)
    assert text.isprintable() and text.endswith(f"[{name}] x")


LOGGING = """
import logging, warnings
from shared.logs import configure_logging
configure_logging("warning", as_json=%s)
logging.getLogger("a").info("not told")
logging.getLogger("a").warning("one\\ntwo")
logging.getLogger("b").error("half a character: %%s", "\\ud800")
warnings.warn("old")
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_every_record_goes_to_stderr_in_the_chosen_form(as_json: bool) -> None:
    code = LOGGING % as_json
    said = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True
    )
    lines = said.stderr.splitlines()
    assert (said.stdout, len(lines)) == ("", 3)
    expected = [("WARNING", "two"), ("ERROR", "d800"), ("WARNING", "old")]
    for line, (level, end) in zip(lines, expected, strict=True):
        assert level in line and end in line
        assert not as_json or json.loads(line)["level"] == level


@pytest.mark.parametrize(("as_json", "level"), [("true", "WARNING"), ("1", "warning"), ("", "")])
def test_a_child_logs_as_its_parent_was_told_to_under_the_request_it_works_for(
    as_json: str, level: str
) -> None:
    program = (
        "import logging; from shared import logs, request_id; logs.configure_logging_of_child(); "
        "request_id.go_on('bad id'); request_id.go_on(None); request_id.go_on('made-it'); "
        "logging.info('well'); logging.warning('look')"
    )
    environment = {"GENPLAT_LOG_JSON": as_json} | ({"GENPLAT_LOG_LEVEL": level} if level else {})
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stderr.splitlines()
    if as_json:
        (line,) = [json.loads(line) for line in lines]
        assert (line["message"], line["request_id"]) == ("look", "made-it")
    else:
        assert [line.partition(" [made-it] ")[2] for line in lines] == ["well", "look"]
