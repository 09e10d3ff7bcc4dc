"""One log format for every service; control characters in messages are escaped."""

import json
import logging
import os
import re
import sys
import time

from shared import request_id

# A name or a header may carry line breaks and terminal escapes that forge log lines.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def _request_of(record: logging.LogRecord) -> str | None:
    """The request that a record is about: where many are worked on at once (``extra``), it says
    which."""
    return getattr(record, "request_id", None) or request_id.current()


class TextFormatter(logging.Formatter):
    """`time level logger [request] message`, one record a line but for a traceback's lines, which
    are indented: what an error quotes may hold a line that looks like a record."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)-7s %(name)s%(about)s %(message)s", "%Y-%m-%dT%H:%M:%SZ"
        )
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage().replace("\n", "\\n")
        about = _request_of(record)
        record.about = f" [{about}]" if about else ""
        record.asctime = self.formatTime(record, self.datefmt)
        line = _escape(self.formatMessage(record))
        if record.exc_info:
            traceback = _escape(self.formatException(record.exc_info).replace("\r", ""))
            line += "\n  " + traceback.replace("\n", "\n  ")
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if about := _request_of(record):
            entry["request_id"] = about
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configure_logging_of_child() -> None:
    """The same in a process whose parent has read the settings."""
    as_json = os.environ.get("GENPLAT_LOG_JSON", "").lower() in ("1", "true", "t", "yes", "y", "on")
    configure_logging(os.environ.get("GENPLAT_LOG_LEVEL", "INFO"), as_json=as_json)


def configure_logging(level: str = "INFO", *, as_json: bool = False) -> None:
    """Send every record to stderr in GenPlat's format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # One line for each health check and sweep says nothing.
    logging.getLogger("httpx").setLevel(logging.WARNING)
