"""The pure part of routing: every draw falls on a target, as often as its weight says."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.routing import Asker, Weighted, order_targets, sticky_key

names = st.sampled_from(["a", "b", "c", "d", "e"])
targets = st.lists(
    st.builds(Weighted, label=names, weight=st.floats(0, 1000)), min_size=1, max_size=5
).filter(lambda some: any(target.weight > 0 for target in some))


@given(targets, st.lists(names, max_size=8), st.floats(0, 1, exclude_max=True))
def test_the_order_is_one_target_then_the_fallbacks_then_the_others(
    some: list[Weighted], fallbacks: list[str], draw: float
) -> None:
    first, *rest = order_targets(targets=some, fallbacks=fallbacks, draw=draw)
    drawable = {target.label for target in some if target.weight > 0}
    assert first in drawable
    declared = set(fallbacks) - {first}
    assert rest[: len(declared)] == sorted(declared, key=fallbacks.index)
    assert set(rest) == (declared | drawable) - {first}
    assert len(rest) == len(set(rest))


def test_of_two_that_are_drawn_the_quicker_one_is_asked() -> None:
    some = [Weighted(label, 1) for label in "abcd"]
    costs = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}

    def drawn(draw: float) -> str:
        return order_targets(targets=some, fallbacks=[], draw=draw, cost=costs.__getitem__)[0]

    shares = Counter(drawn(step / 6007) for step in range(6007))
    # Of the pairs of four, one holds no other than the slowest two, and so on: 0, 1, 2, 3 of 6.
    assert "a" not in shares
    for label, share in (("b", 1 / 6), ("c", 2 / 6), ("d", 3 / 6)):
        assert abs(shares[label] / 6007 - share) < 0.03
    # One target alone needs no second draw.
    only = order_targets(targets=some[:1], fallbacks=[], draw=0.5, cost=costs.__getitem__)
    assert only == ["a"]


def test_shares_follow_the_weights() -> None:
    some = [Weighted("a", 1), Weighted("b", 3), Weighted("never", 0)]
    draws = [step / 1000 for step in range(1000)]
    shares = Counter(order_targets(targets=some, fallbacks=[], draw=draw)[0] for draw in draws)
    assert shares == {"a": 250, "b": 750}


def test_without_a_weight_there_is_no_target() -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        order_targets(targets=[Weighted("a", 0)], fallbacks=["b"], draw=0.5)


USERS = [f"user-{number}" for number in range(2000)]


def shared(**weights: float) -> dict[str, str]:
    """Who asks whom where each target has a weight."""
    some = [Weighted(label, weight) for label, weight in weights.items()]

    def first(user: str) -> str:
        key = sticky_key("support", "user", Asker(user))
        return order_targets(targets=some, fallbacks=[], draw=0.99, key=key)[0]

    return {user: first(user) for user in USERS}


def test_askers_are_spread_by_weight() -> None:
    shares = Counter(shared(a=70, b=20, c=10, never=0).values())
    assert set(shares) == {"a", "b", "c"}
    for label, share in (("a", 0.7), ("b", 0.2), ("c", 0.1)):
        assert abs(shares[label] / len(USERS) - share) < 0.05


@pytest.mark.parametrize(
    "after",
    [
        {"a": 70, "b": 20, "c": 10},
        {"a": 60, "b": 20, "c": 20},
        {"c": 10, "b": 10, "a": 80},
        {"a": 0, "b": 10, "c": 10},
        {"b": 10, "c": 10},
        {"a": 80, "b": 10, "c": 10, "d": 20},
        {"a": 8, "b": 1, "c": 1},
    ],
)
def test_only_those_move_who_have_to(after: dict[str, float]) -> None:
    before: dict[str, float] = {"a": 80, "b": 10, "c": 10}
    scale = sum(before.values()) / sum(after.values()) if after["b"] == 1 else 1
    change = {label: after.get(label, 0) * scale - before.get(label, 0) for label in "abcd"}
    old, new = shared(**before), shared(**after)
    moved = [(old[user], new[user]) for user in USERS if old[user] != new[user]]
    assert bool(moved) == any(change.values())
    for left, joined in moved:
        assert change[left] <= 0 <= change[joined]
        assert change[left] < 0 or change[joined] > 0


def test_ten_per_cent_more_for_one_of_two_move_ten_per_cent() -> None:
    old, new = shared(a=80, b=20), shared(a=70, b=30)
    moved = [(old[user], new[user]) for user in USERS if old[user] != new[user]]
    assert set(moved) == {("a", "b")}
    assert 0.07 < len(moved) / len(USERS) < 0.13


@given(targets, st.text(max_size=20))
def test_any_asker_finds_a_target(some: list[Weighted], key: str) -> None:
    first = order_targets(targets=some, fallbacks=[], draw=0, key=key)[0]
    assert first in {target.label for target in some if target.weight > 0}


def test_a_request_that_does_not_say_whose_it_is_has_no_key() -> None:
    for sticky, asker in (
        ("user", Asker(conversation="c")),
        ("conversation", Asker("u")),
        (None, Asker("u", "c")),
    ):
        assert sticky_key("support", sticky, asker) is None
    assert sticky_key("a", "user", Asker("u")) != sticky_key("b", "user", Asker("u"))
