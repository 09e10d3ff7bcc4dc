"""Sessions over one engine, and what is left of them at the end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import event, text

from gateway.database import Database


def test_closing_waits_for_who_still_reads_and_leaves_no_connection(
    either_database: Database,
) -> None:
    database = either_database
    opened: list[object] = []
    event.listen(database.engine, "connect", lambda connection, _: opened.append(connection))
    event.listen(database.engine, "close", lambda connection, _: opened.remove(connection))
    reading, enough = threading.Event(), threading.Event()

    def read() -> int:
        with database.read() as session:
            found = session.connection().execute(text("SELECT 1")).scalar_one()
            reading.set()
            enough.wait(10)
            return int(found)

    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(read)
        assert reading.wait(10)
        closing = pool.submit(database.close)
        time.sleep(0.2)
        assert not closing.done() and len(opened) == 1
        enough.set()
        closing.result(timeout=10)
        assert reader.result(timeout=10) == 1
    assert opened == []


def test_closing_does_not_wait_for_ever(database: Database) -> None:
    with database.read() as session:
        session.connection()
        began = time.monotonic()
        database.close(patience=0.1)
        assert time.monotonic() - began < 5
