"""What a client was told, on disk before it goes on: the oracle that the platform is held to."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any


class History:
    """Facts in the order in which they were learned. Each is synced to disk: it outlives the
    tests' own process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def add(self, kind: str, **facts: Any) -> None:
        line = json.dumps({"kind": kind, "time": time.monotonic(), **facts})
        with self._lock:
            self._file.write(line.encode() + b"\n")
            os.fsync(self._file.fileno())

    def all(self, kind: str) -> list[dict[str, Any]]:
        lines = self._path.read_text().splitlines()
        return [fact for line in lines if (fact := json.loads(line))["kind"] == kind]

    def close(self) -> None:
        self._file.close()
