"""What is asked for."""

from gateway.synthesis.generating import Aim, body, request
from gateway.synthesis.pairs import Pair, record_of, seeds_of
from gateway.synthesis.shape import shape_of
from gateway.synthesis.spec import Wishes
from shared.datasets import Message, Record

SEEDS = tuple(Pair(f"Question {n} about birds?", f"Answer {n}, as it is.") for n in range(20))


def wishes(**changes: object) -> Wishes:
    return Wishes.model_validate({"model": "m"} | changes)


def test_the_same_seed_asks_the_same_and_another_something_else() -> None:
    aims = [Aim(SEEDS)]
    asked = [request(n, wishes=wishes(), aims=aims, made=()) for n in range(40)]
    assert asked == [request(n, wishes=wishes(), aims=aims, made=()) for n in range(40)]
    assert asked != [request(n, wishes=wishes(seed=1), aims=aims, made=()) for n in range(40)]
    axes = [one.axis for one in asked]
    assert 10 <= sum(axis is None for axis in axes) <= 30
    assert all(len(one.shots) == (1 if one.axis else 4) for one in asked)
    bodies = [body(one, wishes=wishes(), aims=aims, shape=shape_of(SEEDS)) for one in asked]
    assert len({one["seed"] for one in bodies}) == 40


def test_generated_rows_are_examples_beside_the_seeds() -> None:
    made = (Pair("a new one", "yes"), Pair("another new one", "yes"))
    asked = request(0, wishes=wishes(variations=0, shots=6), aims=[Aim(SEEDS)], made=made)
    assert set(made) < set(asked.shots)
    assert sum(shot in SEEDS for shot in asked.shots) == 4


def test_aims_are_asked_for_by_their_shares() -> None:
    aims = [Aim(SEEDS[:9], "birds", 6), Aim(SEEDS[9:12], "bees", 3), Aim(SEEDS[12:], "ants", 1)]
    places = [request(n, wishes=wishes(), aims=aims, made=()).aim for n in range(100)]
    assert [abs(places.count(place) - share) <= 2 for place, share in enumerate((60, 30, 10))]
    asked = request(3, wishes=wishes(), aims=aims, made=())
    said = body(asked, wishes=wishes(), aims=aims, shape=shape_of(SEEDS))["messages"][1]["content"]
    assert f"goes wrong today: {aims[asked.aim].label}." in said
    assert all(shot in aims[asked.aim].pairs for shot in asked.shots)


def test_seeds_are_rows_of_one_question() -> None:
    system = Message(role="system", content="Be brief.")
    user, said = Message(role="user", content="Q"), Message(role="assistant", content="A")
    records = [Record(messages=(system, user, said))] * 2
    records += [Record(messages=(user, said)), Record(messages=(user, said, user, said))]
    seeds = seeds_of(records)
    assert seeds.pairs == (Pair("Q", "A"),) * 3
    assert (seeds.system, seeds.left_out) == ("Be brief.", 1)
    assert record_of(Pair("Q", "A"), seeds.system) == records[0]
    assert seeds_of([]).pairs == ()
