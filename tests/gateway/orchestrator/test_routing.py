"""The pure part of routing: every draw falls on a target, as often as its weight says."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.orchestrator.routing import Weighted, order_targets

names = st.sampled_from(["a", "b", "c", "d", "e"])
targets = st.lists(
    st.builds(Weighted, deployment=names, weight=st.floats(0, 1000)), min_size=1, max_size=5
).filter(lambda some: any(target.weight > 0 for target in some))


@given(targets, st.lists(names, max_size=8), st.floats(0, 1, exclude_max=True))
def test_the_order_is_one_target_then_the_fallbacks(
    some: list[Weighted], fallbacks: list[str], draw: float
) -> None:
    first, *rest = order_targets(targets=some, fallbacks=fallbacks, draw=draw)
    assert first in {target.deployment for target in some if target.weight > 0}
    assert set(rest) == set(fallbacks) - {first}
    assert len(rest) == len(set(rest))
    assert rest == sorted(rest, key=fallbacks.index)


def test_shares_follow_the_weights() -> None:
    some = [Weighted("a", 1), Weighted("b", 3), Weighted("never", 0)]
    draws = [step / 1000 for step in range(1000)]
    shares = Counter(order_targets(targets=some, fallbacks=[], draw=draw)[0] for draw in draws)
    assert shares == {"a": 250, "b": 750}


def test_without_a_weight_there_is_no_target() -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        order_targets(targets=[Weighted("a", 0)], fallbacks=["b"], draw=0.5)
