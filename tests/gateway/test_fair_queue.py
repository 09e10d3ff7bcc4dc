"""Whose run is next, over owners who queue many at once and owners who come later."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import SQLModel, col, select

from gateway.database import Database, make_engine
from gateway.fair_queue import next_rank
from gateway.run_views import get_run
from gateway.tables import Run, now
from tests.gateway.parts import add_dataset

OWNERS = ("ann", "bob", "cid")
Step = tuple[str, str]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("queue"), st.sampled_from(OWNERS)),
        st.tuples(st.sampled_from(("serve", "end", "cancel")), st.just("")),
    ),
    max_size=30,
)


@dataclass
class Queue:
    """Runs in a database, and the model of them that a test keeps."""

    database: Database
    waiting: list[tuple[str, str]] = field(default_factory=list)
    running: list[str] = field(default_factory=list)

    def queue(self, owner: str) -> str:
        with self.database.write() as session:
            run = Run(
                owner=owner,
                spec={},
                base_model="m",
                dataset_id="ds_test",
                queue_rank=next_rank(session, owner),
            )
            session.add(run)
        self.waiting.append((run.id, owner))
        return run.id

    def first(self) -> tuple[str, str] | None:
        with self.database.read() as session:
            query = select(Run).where(Run.status == "queued").order_by(col(Run.queue_rank))
            run = session.exec(query).first()
        return (run.id, run.owner) if run else None

    def change(self, run_id: str, **values: object) -> None:
        with self.database.write() as session:
            run = session.get_one(Run, run_id)
            for name, value in values.items():
                setattr(run, name, value)
            session.add(run)

    def serve(self) -> tuple[str, str] | None:
        if (found := self.first()) is None:
            return None
        self.change(found[0], status="running", started_at=now())
        self.waiting.remove(found)
        self.running.append(found[0])
        return found

    def do(self, step: Step) -> None:
        match step[0]:
            case "queue":
                self.queue(step[1])
            case "serve":
                self.serve()
            case "end" if self.running:
                self.change(self.running.pop(), status="succeeded")
            case "cancel" if self.waiting:
                self.change(self.waiting.pop()[0], status="cancelled")


def make_queue(folder: Path) -> Queue:
    engine = make_engine(f"sqlite:///{folder / 'queue.db'}")
    SQLModel.metadata.drop_all(engine)
    SQLModel.metadata.create_all(engine)
    database = Database(engine)
    add_dataset(database)
    return Queue(database)


def drain(queue: Queue) -> list[str]:
    owners = []
    while (found := queue.serve()) is not None:
        owners.append(found[1])
        queue.do(("end", ""))
    return owners


FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FEW
@given(counts=st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_everybodys_first_comes_before_anybodys_second(tmp_path: Path, counts: list[int]) -> None:
    queue = make_queue(tmp_path)
    try:
        for owner, count in zip(OWNERS, counts, strict=True):
            for _ in range(count):
                queue.queue(owner)
        served: Counter[str] = Counter()
        for owner in drain(queue):
            waits_longer = [other for other, _ in served.items() if served[other] < served[owner]]
            assert all(served[o] == counts[OWNERS.index(o)] for o in waits_longer)
            served[owner] += 1
        assert [served[owner] for owner in OWNERS] == counts
    finally:
        queue.database.close()


@FEW
@given(steps=STEPS, owner=st.sampled_from(OWNERS), more=st.integers(0, 4))
def test_who_comes_waits_for_one_run_of_each_other_owner_at_most(
    tmp_path: Path, steps: list[Step], owner: str, more: int
) -> None:
    """Whatever was queued, served, ended and taken back before, and whoever comes after."""
    queue = make_queue(tmp_path)
    try:
        for step in steps:
            queue.do(step)
        own_before = [run_id for run_id, whose in queue.waiting if whose == owner]
        mine = queue.queue(owner)
        for _ in range(more):
            for other in OWNERS:
                queue.queue(other)
        overtaken: Counter[str] = Counter()
        while (found := queue.serve()) is not None and found[0] != mine:
            overtaken[found[1]] += 1
        assert found is not None
        turns = len(own_before) + 1
        # (One of its own rounds may have begun, and one may be half over.)
        assert overtaken.pop(owner, 0) == len(own_before)
        assert all(count <= turns + 1 for count in overtaken.values())
    finally:
        queue.database.close()


@FEW
@given(steps=STEPS)
def test_ranks_are_unique_and_places_follow_them(tmp_path: Path, steps: list[Step]) -> None:
    queue = make_queue(tmp_path)
    try:
        for step in steps:
            queue.do(step)
        with queue.database.read() as session:
            rows = session.exec(select(Run).order_by(col(Run.queue_rank))).all()
        assert len({row.queue_rank for row in rows}) == len(rows)
        waiting = [row for row in rows if row.status == "queued"]
        views = [get_run(database=queue.database, owner=r.owner, run_id=r.id) for r in waiting]
        assert [view.queue_position for view in views] == list(range(1, len(views) + 1))
    finally:
        queue.database.close()


def test_who_trained_alone_for_long_owes_nobody(tmp_path: Path) -> None:
    queue = make_queue(tmp_path)
    try:
        for _ in range(5):
            queue.queue("ann")
            drain(queue)
        queue.queue("bob")
        queue.queue("bob")
        queue.queue("ann")
        assert drain(queue) == ["bob", "bob", "ann"]
    finally:
        queue.database.close()
