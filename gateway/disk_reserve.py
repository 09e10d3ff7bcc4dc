"""A file that only takes up room, next to SQLite's. Where the disk is full it goes, so that the
database can still write down how runs end; when there is plenty again it is made anew."""

import logging
import os
import shutil
from pathlib import Path

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

log = logging.getLogger(__name__)

RESERVE_FILE = "genplat.reserve"
# It must not be what fills a small disk.
PLENTY = 10
_MIB = 2**20
_FULL = "full"


class DiskReserve:
    """``size`` bytes in ``folder``; with 0 there is none, and nothing happens."""

    def __init__(self, folder: Path, size: int) -> None:
        self.path = folder / RESERVE_FILE
        self.size = size

    def take(self) -> None:
        """Make the file where it is missing and the disk has ten times its size to spare."""
        if self.size == 0 or self._taken() or self._free() < PLENTY * self.size:
            return
        try:
            with self.path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self.size)
                else:
                    file.write(bytes(self.size))
        except OSError as error:
            log.warning("No room is kept free for the database: %s", error)
            self.path.unlink(missing_ok=True)

    def give_back(self) -> None:
        if self._taken():
            self.path.unlink(missing_ok=True)
            log.error(
                "The disk is full. %d MiB that were kept for the database are given back: free "
                "some space in the data folder.",
                self.size // _MIB,
            )

    def watch(self, engine: Engine) -> None:
        """Give the room back as soon as the database finds none. What failed by then stays failed;
        whoever repeats it has the room."""

        def look_at(context: ExceptionContext) -> None:
            # ("disk I/O error" is what SQLite says where its side files cannot grow.)
            said = str(context.original_exception)
            if _FULL in said or ("disk" in said and self._free() < _MIB):
                self.give_back()

        event.listen(engine, "handle_error", look_at)

    def _taken(self) -> bool:
        try:
            return self.path.stat().st_size == self.size
        except OSError:
            return False

    def _free(self) -> int:
        return shutil.disk_usage(self.path.parent).free
