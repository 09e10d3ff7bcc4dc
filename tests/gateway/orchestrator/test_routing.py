"""The pure part of routing: every draw falls on a target, as often as its weight says."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.routing import Asker, Weighted, order_targets, sticky_draw

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


def test_askers_stay_where_they_are_and_are_spread_by_weight() -> None:
    targets = [Weighted("a", 80), Weighted("b", 20)]

    def first(user: str, weights: list[Weighted] = targets) -> str:
        draw = sticky_draw("support", "user", Asker(user), 0.99)
        return order_targets(targets=weights, fallbacks=[], draw=draw)[0]

    users = [f"user-{number}" for number in range(2000)]
    before = {user: first(user) for user in users}
    assert before == {user: first(user) for user in users}
    assert 0.75 < sum(label == "a" for label in before.values()) / len(users) < 0.85
    # Ten per cent more for b: nobody leaves it, and nobody else moves.
    after = {user: first(user, [Weighted("a", 70), Weighted("b", 30)]) for user in users}
    assert all(after[user] == "b" for user in users if before[user] == "b")


def test_a_request_that_does_not_say_whose_it_is_is_drawn() -> None:
    for sticky, asker in (
        ("user", Asker(conversation="c")),
        ("conversation", Asker("u")),
        (None, Asker("u", "c")),
    ):
        assert sticky_draw("support", sticky, asker, 0.25) == 0.25
    assert sticky_draw("a", "user", Asker("u"), 0) != sticky_draw("b", "user", Asker("u"), 0)
