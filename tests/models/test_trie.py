"""The trie's flat tables against a dictionary of prefixes."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BundleError
from models.trie import Trie

Codes = list[tuple[int, int, int]]
catalogues = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=40, unique=True)


def as_array(codes: Codes) -> np.ndarray:
    return np.array([(0, 0, 0), *codes], dtype=np.int64)


def walk(trie: Trie) -> dict[tuple[int, ...], int]:
    """Every path from the root to a leaf, with the item found there."""
    found = {}

    def visit(level: int, node: int, prefix: tuple[int, ...]) -> None:
        if level == trie.levels:
            found[prefix] = int(trie.leaf_item[node])
            return
        for child in range(trie.start[level][node], trie.start[level][node + 1]):
            visit(level + 1, child, (*prefix, int(trie.code[level][child])))

    visit(0, 0, ())
    return found


@given(catalogues)
def test_every_item_and_nothing_else_is_reached(codes: Codes) -> None:
    assert walk(Trie.build(as_array(codes))) == {code: index for index, code in enumerate(codes, start=1)}


@given(catalogues, st.sampled_from([1, 255, 1 << 20, 1 << 40]))
def test_codes_of_any_size_come_in_the_same_order(codes: Codes, factor: int) -> None:
    """Semantic ids that fit into one integer are sorted another way than longer ones."""
    plain, large = Trie.build(as_array(codes)), Trie.build(as_array(codes) * factor)
    np.testing.assert_array_equal(large.leaf_item, plain.leaf_item)
    for ours, theirs in zip(large.start, plain.start, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(catalogues)
def test_fan_out_is_the_largest_number_of_children(codes: Codes) -> None:
    trie = Trie.build(as_array(codes))
    for level in range(3):
        children = defaultdict(set)
        for code in codes:
            children[code[:level]].add(code[level])
        assert trie.fan_out(level) == max(map(len, children.values()))


@given(catalogues, st.data())
def test_a_node_is_open_exactly_when_an_allowed_item_lies_below_it(codes: Codes, data: st.DataObject) -> None:
    trie = Trie.build(as_array(codes))
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes) + 1, max_size=len(codes) + 1)))
    prefixes = [sorted({code[: level + 1] for code in codes}) for level in range(3)]
    masks = trie.node_masks(allowed[None])
    for level, mask in enumerate(masks):
        open_prefixes = {code[: level + 1] for code, is_open in zip(codes, allowed[1:], strict=True) if is_open}
        assert [prefix in open_prefixes for prefix in prefixes[level]] == mask[0].tolist()


def test_items_that_share_all_codes_are_refused() -> None:
    with pytest.raises(BundleError, match=r"items 1 and 3 share \[1, 2, 3\]"):
        Trie.build(as_array([(1, 2, 3), (0, 0, 1), (1, 2, 3)]))
