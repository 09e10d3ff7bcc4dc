"""Failures of one kind come together, with words that tell them from others."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.synthesis.clusters import cluster

PAYMENTS = [f"The customer {n} pays the invoice with a card at the bank" for n in "abcdefghij"]
RIVERS = [f"A boat sails down the river near the harbour of town {n}" for n in "klmnop"]
COOKING = [f"Cook {n} bakes bread and boils soup in the kitchen" for n in "qrst"]


def test_kinds_are_told_apart_and_named() -> None:
    texts = [*PAYMENTS, *RIVERS, *COOKING]
    mixed = texts[::2] + texts[1::2]
    found = cluster(mixed)
    kinds = [{mixed[place] for place in one.members} for one in found]
    assert kinds == [set(PAYMENTS), set(RIVERS), set(COOKING)]
    assert "invoice" in found[0].label and "boat" in found[1].label
    assert found == cluster(mixed)


def test_as_many_as_are_wanted() -> None:
    assert len(cluster([*PAYMENTS, *RIVERS, *COOKING], count=2)) == 2
    assert len(cluster(PAYMENTS[:1], count=5)) == 1
    assert cluster([]) == []


def test_what_has_nothing_to_part_it_is_one_kind() -> None:
    [one] = cluster(["the same text again"] * 5)
    assert one.members == (0, 1, 2, 3, 4)
    assert "again" in one.label


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=15))
def test_each_text_is_in_one_kind(texts: list[str]) -> None:
    found = cluster(texts)
    assert sorted(place for one in found for place in one.members) == list(range(len(texts)))
    assert all(one.label for one in found)
