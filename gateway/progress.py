"""Progress in a terminal: one line that is drawn anew, or plain lines where there is none."""

import json
import sys
import time
from typing import Any, TextIO

_WIDTH = 28


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def bar(done: float) -> str:
    filled = round(min(max(done, 0), 1) * _WIDTH)
    return "█" * filled + "░" * (_WIDTH - filled)


class Progress:
    """``show`` may be called as often as one likes; without a terminal a line comes at most each
    ``quiet_seconds``, and where something ended."""

    def __init__(self, stream: TextIO, *, quiet_seconds: float = 15) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._quiet_seconds = quiet_seconds
        self._last_line = -quiet_seconds
        self._open = False

    def show(self, text: str) -> None:
        if self._live:
            self._write(f"\r\x1b[K{text}")
            self._open = True
        elif time.monotonic() - self._last_line >= self._quiet_seconds:
            self._last_line = time.monotonic()
            self._write(text + "\n")

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._open:
            self._write("\r\x1b[K")
            self._open = False
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Told:
    """What a command tells: lines for people, or (``as_json``) one JSON object a line, each with
    ``event`` and ``data``; then what is said beside the events goes to stderr."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream, self._as_json = stream, as_json
        self._progress = Progress(sys.stderr if as_json else stream)

    def say(self, text: str) -> None:
        self._progress.say(text)

    def event(self, name: str, data: dict[str, Any]) -> None:
        if self._as_json:
            self._stream.write(json.dumps({"event": name, "data": data}) + "\n")
            self._stream.flush()


def training_line(state: dict[str, object]) -> str:
    """A run's state on one line: bar, step, loss, tokens/s, time left."""
    step, total = _number(state.get("step")) or 0, _number(state.get("total_steps"))
    if not total:
        waiting = state.get("phase") or state.get("status") or "queued"
        return f"  {bar(0)} {str(waiting).replace('_', ' ')}"
    loss, speed = _number(state.get("loss")), _number(state.get("tokens_per_second"))
    return (
        f"  {bar(step / total)} step {step:.0f}/{total:.0f}"
        f"  loss {'-' if loss is None else f'{loss:.3f}'}"
        f"  {'-' if speed is None else f'{speed:.0f}'} tokens/s"
        f"  ETA {duration(_number(state.get('eta_seconds')))}"
    )


def batch_line(
    done: int, total: int, *, failed: int, tokens_per_second: float, eta_seconds: float
) -> str:
    """How far a batch is on one line: bar, rows, tokens/s, time left."""
    return (
        f"  {bar(done / total)} row {done:,}/{total:,}"
        f"{f'  {failed:,} failed' if failed else ''}"
        f"  {tokens_per_second:.0f} tokens/s  ETA {duration(eta_seconds)}"
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
