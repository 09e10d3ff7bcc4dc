"""Syntheses over stops: leases on both databases, and a gateway that is killed while it works."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.database import Database
from gateway.synthesis.filtering import Drop
from gateway.synthesis.leases import MAX_LOST, Lease, LeaseLost, claim_next
from gateway.synthesis.pairs import Pair
from gateway.synthesis.views import cancel_synthesis, get_synthesis
from gateway.synthesis.work import Answer, Row
from gateway.tables import Synthesis, now
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.fake_inference import FakeInference, fake_inference
from tests.gateway.gateway_process import Server, environment, wait_for, wait_until_live
from tests.gateway.parts import OWNER, asynchronous, fake_prepared
from tests.gateway.synthesis.writing import seed_rows, writes
from tests.valkey import Valkey, free_port


def stored(database: Database, **changes: Any) -> str:
    with database.write() as session:
        row = Synthesis(owner=OWNER, name="n", spec={"count": 3, "model": "m"}, **changes)
        session.add(row)
        session.flush()
        return row.id


def claimed(database: Database, holder: str = "one", seconds: float = 60) -> Lease:
    lease = claim_next(database, holder=holder, seconds=seconds)
    assert lease is not None
    return lease


def test_one_gateway_at_a_time_works_on_one(either_database: Database) -> None:
    first, second = stored(either_database), stored(either_database)
    assert claimed(either_database).synthesis_id == first
    assert claimed(either_database, "two").synthesis_id == second
    assert claim_next(either_database, holder="three", seconds=60) is None


@asynchronous
async def test_what_was_kept_is_found_again_by_the_next_one(either_database: Database) -> None:
    lease = claimed_of(either_database, stored(either_database))
    answer = Answer("text", True, 3, 4)
    kept = Row(1, 0, Pair("p", "c"), "aim", "axis", None, 4.5, "good", True)
    dropped = Row(2, 0, Pair("p", "c"), drop=Drop("leakage", "said", {"row": 3}))
    await lease.keep_answer(0, answer)
    await lease.keep_rows([kept, dropped])
    lease.release()
    other = claimed(either_database, "two")
    assert other.answers() == {0: answer}
    assert list(other.rows()) == [kept, dropped]
    with pytest.raises(LeaseLost):
        await lease.keep_answer(1, answer)
    view = get_synthesis(database=either_database, owner=OWNER, synthesis_id=other.synthesis_id)
    assert (view.kept, view.dropped, view.requests, view.prompt_tokens) == (1, 1, 1, 3)
    # A row that was kept may turn out to be one too many.
    await other.keep_rows([dropped, Row(1, 0, Pair("p", "c"), drop=Drop("surplus", "enough"))])
    view = get_synthesis(database=either_database, owner=OWNER, synthesis_id=other.synthesis_id)
    assert view.reasons == {"leakage": 1, "surplus": 1}


def claimed_of(database: Database, synthesis_id: str) -> Lease:
    lease = claimed(database)
    assert lease.synthesis_id == synthesis_id
    return lease


def test_a_gateway_that_is_lost_is_followed_by_another_but_not_for_ever(
    database: Database,
) -> None:
    synthesis_id = stored(database)
    for _ in range(MAX_LOST):
        claimed(database, seconds=-1)
    assert claim_next(database, holder="two", seconds=60) is None
    view = get_synthesis(database=database, owner=OWNER, synthesis_id=synthesis_id)
    assert view.error is not None and view.error.code == "gateway_lost"


def test_a_cancelled_one_is_written_to_by_nobody(database: Database) -> None:
    lease = claimed_of(database, stored(database))
    cancel_synthesis(database=database, owner=OWNER, synthesis_id=lease.synthesis_id)
    for write in (lease.renew, lease.review, lease.release):
        with pytest.raises(LeaseLost):
            write()
    assert claim_next(database, holder="two", seconds=60) is None


def test_an_expired_lease_cannot_be_taken_twice(either_database: Database) -> None:
    synthesis_id = stored(
        either_database, status="running", holder="gone", held_until=now() - timedelta(seconds=1)
    )
    assert claimed(either_database).synthesis_id == synthesis_id
    assert claim_next(either_database, holder="two", seconds=60) is None


@pytest.fixture
def inference() -> Iterator[FakeInference]:
    with fake_inference(FakeInference(says=writes)) as fake:
        yield fake


def started(root: Path, valkey: Valkey, inference: FakeInference, port: int) -> Server:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.app", "--port", str(port)],
        env=environment(
            root,
            valkey,
            GENPLAT_INFERENCE_URL=inference.url,
            GENPLAT_INTERNAL_TOKEN=inference.token,
            GENPLAT_SYNTHESIS_LEASE_SECONDS="1",
            GENPLAT_SYNTHESIS_REQUESTS="2",
            GENPLAT_RECONCILE_SECONDS="0.2",
        ),
        text=True,
    )
    server = Server(process, port, root)
    wait_until_live(server)
    return server


def killed(server: Server) -> None:
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()


def test_killed_twice_it_goes_on_and_asks_nothing_twice_that_was_answered(
    tmp_path: Path, valkey: Valkey, inference: FakeInference
) -> None:
    fake_prepared(Storage(tmp_path), BUNDLED_MODEL)
    port = free_port()
    lines = [
        json.dumps({"prompt": one.prompt, "completion": one.completion}) for one in seed_rows()
    ]
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    server = started(tmp_path, valkey, inference, port)
    with httpx.Client(base_url=server.url, headers=headers, timeout=20) as http:
        file = ("rows.jsonl", "\n".join(lines).encode())
        seed = http.post("/api/datasets", data={"name": "s"}, files={"file": file}).json()["id"]
        spec = {"model": BUNDLED_MODEL, "dataset_id": seed, "count": 60, "per_request": 2}
        made = http.post("/api/syntheses", json=spec)
        assert made.status_code == 202, made.text
        path = f"/api/syntheses/{made.json()['id']}"
        for asked in (4, 12):
            wait_for(lambda asked=asked: len(writings(inference)) >= asked)
            killed(server)
            server = started(tmp_path, valkey, inference, port)
        wait_for(lambda: http.get(path).json()["status"] == "reviewing")
        assert http.get(path).json()["kept"] == 60
        counts = Counter(writings(inference))
    server.process.terminate()
    server.process.wait()
    # Those that were under way when it was killed (2 at once) may be asked again; no other.
    assert sum(counts.values()) - len(counts) <= 4
    assert sorted(counts) == list(range(42, 42 + len(counts)))


def writings(inference: FakeInference) -> list[int]:
    return [body["seed"] for body in inference.asked if "seed" in body]
