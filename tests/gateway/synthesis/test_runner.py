"""Syntheses over stops: what was kept, and a gateway that is killed while it works."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.database import Database
from gateway.leases import MAX_LOST, Lease, LeaseLost, claim
from gateway.synthesis.filtering import Drop
from gateway.synthesis.pairs import Pair
from gateway.synthesis.recording import SYNTHESES, Recorded, review
from gateway.synthesis.views import get_synthesis
from gateway.synthesis.work import Answer, Row
from gateway.tables import Synthesis
from shared.model_library import BUNDLED_MODEL
from shared.storage import Storage
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.fake_inference import FakeInference, fake_inference
from tests.gateway.gateway_process import Server, environment, wait_for, wait_until_live
from tests.gateway.parts import OWNER, asynchronous, fake_prepared
from tests.gateway.synthesis.writing import seed_rows, writes
from tests.valkey import Valkey, free_port


def taken(database: Database) -> Lease[Synthesis]:
    lease = claim(database, SYNTHESES, seconds=60)
    assert lease is not None
    return lease


@asynchronous
async def test_what_was_kept_is_found_again_by_the_next_one(either_database: Database) -> None:
    with either_database.write() as session:
        session.add(Synthesis(owner=OWNER, name="n", spec={"count": 3, "model": "m"}))
    lease = taken(either_database)
    first = Recorded(lease)
    answer = Answer("text", True, 3, 4)
    kept = Row(1, 0, Pair("p", "c"), "aim", "axis", None, 4.5, "good", True)
    dropped = Row(2, 0, Pair("p", "c"), drop=Drop("leakage", "said", {"row": 3}))
    await first.keep_answer(0, answer)
    await first.keep_rows([kept, dropped])
    lease.release()
    second = Recorded(taken(either_database))
    assert await second.answers() == {0: answer}
    assert await second.rows() == [kept, dropped]
    with pytest.raises(LeaseLost):
        await first.keep_answer(1, answer)
    view = get_synthesis(database=either_database, owner=OWNER, synthesis_id=lease.id)
    assert (view.kept, view.dropped, view.requests, view.prompt_tokens) == (1, 1, 1, 3)
    # A row that was kept may turn out to be one too many.
    await second.keep_rows([dropped, Row(1, 0, Pair("p", "c"), drop=Drop("surplus", "enough"))])
    view = get_synthesis(database=either_database, owner=OWNER, synthesis_id=lease.id)
    assert view.reasons == {"leakage": 1, "surplus": 1}
    review(second.lease)
    assert claim(either_database, SYNTHESES, seconds=60) is None


@asynchronous
async def test_who_gets_on_is_not_given_up(either_database: Database) -> None:
    with either_database.write() as session:
        session.add(Synthesis(owner=OWNER, name="n", spec={"count": 3, "model": "m"}))
    for number in range(2 * MAX_LOST):
        lease = claim(either_database, SYNTHESES, seconds=-1)
        assert lease is not None
        await Recorded(lease).keep_answer(number, Answer())


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


def test_killed_it_goes_on_and_asks_nothing_twice_that_was_answered(
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
        wait_for(lambda: len(writings(inference)) >= 6)
        killed(server)
        server = started(tmp_path, valkey, inference, port)
        wait_for(lambda: http.get(path).json()["status"] == "reviewing")
        assert http.get(path).json()["kept"] == 60
        counts = Counter(writings(inference))
    server.process.terminate()
    server.process.wait()
    # Those that were under way when it was killed (2 at once) may be asked again, and those that
    # came before the model was loaded; no other.
    assert sum(counts.values()) - len(counts) <= 2 + 2
    assert sorted(counts) == list(range(42, 42 + len(counts)))


def writings(inference: FakeInference) -> list[int]:
    return [body["seed"] for body in inference.asked if "seed" in body]
