"""Masks that follow from a prepared filter, against `Trie.node_masks` over the whole catalogue."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.catalogues import beauty_like
from models.masks import Filter, Filters
from models.trie import Trie
from tests.models.test_trie import Codes, as_array, catalogues


@given(catalogues, st.data())
def test_what_is_open_is_what_the_whole_catalogue_says(codes: Codes, data: st.DataObject) -> None:
    trie = Trie.build(as_array(codes))
    some_items = st.lists(st.integers(1, len(codes)), max_size=2 * len(codes))
    only, hidden = data.draw(st.none() | some_items), data.draw(some_items)
    found = Filters(trie, 1 << 20).get(only).without(hidden)
    wanted = [item in (range(len(codes) + 1) if only is None else only) for item in range(len(codes) + 1)]
    wanted = [is_wanted and item not in hidden for item, is_wanted in enumerate(wanted)]
    assert found.items.tolist() == wanted
    for ours, brute in zip(found.nodes, trie.node_masks(np.array([wanted])), strict=True):
        assert ours.tolist() == brute[0].tolist()


def test_a_request_to_a_million_items() -> None:
    """Every kind of closing at a size where tables are large: single leaves, whole nodes, and a node of level 1."""
    random = np.random.default_rng(0)
    codes = beauty_like(1_000_000)
    trie = Trie.build(codes)
    only = np.flatnonzero(random.random(len(codes)) < 0.01)[1:]
    family = only[codes[only, 0] == codes[only[0], 0]]
    hidden = [*random.choice(only, 50).tolist(), *family.tolist()]
    found = Filters(trie, 1 << 30).get(only.tolist()).without(hidden)
    wanted = np.zeros(len(codes), dtype=np.bool_)
    wanted[np.setdiff1d(only, hidden)] = True
    np.testing.assert_array_equal(found.items, wanted)
    for ours, brute in zip(found.nodes, trie.node_masks(wanted[np.newaxis]), strict=True):
        np.testing.assert_array_equal(ours, brute[0])
    assert found.nodes[0].sum() == len(np.unique(codes[wanted, 0]))


def test_a_request_leaves_its_filter_as_it_was() -> None:
    trie = Trie.build(as_array([(0, 0, 0), (0, 0, 1), (1, 2, 3)]))
    everything = Filter.of(trie, np.ones(4, dtype=np.bool_))
    assert not everything.without([1, 2]).nodes[0][0]
    assert all(mask.all() for mask in (everything.items, *everything.nodes))
    assert all(mask.all() for mask in everything.without([]).nodes)


def test_filters_are_kept_by_content_within_their_bound() -> None:
    trie = Trie.build(as_array([(0, 0, 0), (0, 0, 1), (1, 2, 3)]))
    size = Filter.of(trie, np.ones(4, dtype=np.bool_)).nbytes + 2 * 8
    filters = Filters(trie, 2 * size)
    first, second = filters.get([1, 2]), filters.get([2, 3])
    assert filters.get([2, 1, 1]) is first
    filters.get([1, 3])  # the one used longest ago has to go
    assert filters.get([1, 2]) is first
    assert filters.get([2, 3]) is not second
    nothing_kept = Filters(trie, 0)
    assert nothing_kept.get([1]) is not nothing_kept.get([1])
    assert nothing_kept.get(None) is nothing_kept.get(None)
