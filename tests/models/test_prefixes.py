"""Prefix transitions and memorized prefixes against plain counting over the training sequences."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BundleError
from models.prefixes import PrefixTransitions, prefix_transitions
from models.token_memorization import memorize
from models.transitions import HOPS, TransitionIndex
from training.index_build import build_index

NUM_ITEMS, LEVELS, CODEBOOK = 12, 3, 3
Prefix = tuple[int, ...]


def index_of(sequences: list[list[int]], num_items: int = NUM_ITEMS) -> TransitionIndex:
    return build_index([np.array(sequence, dtype=np.int32) for sequence in sequences], num_items)


def random_codes(seed: int) -> np.ndarray:
    """Unique semantic ids of three codes with many shared prefixes: [N + 1, L], row 0 is padding."""
    every = np.stack(np.unravel_index(np.arange(CODEBOOK**LEVELS), (CODEBOOK,) * LEVELS), axis=1)
    chosen = np.random.default_rng(seed).permutation(every)[:NUM_ITEMS]
    return np.concatenate([np.zeros((1, LEVELS), dtype=np.int64), chosen])


def naive_counts(sequences: list[list[int]], codes: np.ndarray, length: int) -> Counter[tuple[Prefix, Prefix, int]]:
    """(source prefix, target prefix, distance) -> how often, item by item."""
    counts: Counter[tuple[Prefix, Prefix, int]] = Counter()
    for sequence in sequences:
        for start, u in enumerate(sequence):
            for gap, v in enumerate(sequence[start + 1 : start + 1 + HOPS], start=1):
                counts[tuple(codes[u, :length]), tuple(codes[v, :length]), gap] += 1
    return counts


class Naive:
    """The published rule for one prefix length, word for word: sets that hold every distance up to h, hop by hop."""

    def __init__(self, sequences: list[list[int]], codes: np.ndarray, length: int) -> None:
        self.codes, self.prefix_length = codes, length
        self.rules: list[defaultdict[Prefix, set[Prefix]]] = [defaultdict(set) for _ in range(HOPS + 1)]
        for source, target, gap in naive_counts(sequences, codes, length):
            for h in range(gap, HOPS + 1):
                self.rules[h][source].add(target)

    def prefix(self, item: int) -> Prefix:
        return tuple(self.codes[item, : self.prefix_length])

    def hop(self, history: list[int], target: int) -> int:
        """The smallest memorized hop, 0 for `unseen`."""
        for hop in range(1, HOPS + 1):
            for d in range(1, hop + 1):
                if len(history) < d or history[-d] == 0 or target == 0:
                    continue
                if self.prefix(target) in self.rules[hop][self.prefix(history[-d])]:
                    return hop
        return 0


sequences_of_items = st.lists(st.lists(st.integers(1, NUM_ITEMS), max_size=9), max_size=6)
any_item = st.integers(0, NUM_ITEMS)
instances = st.lists(st.tuples(st.lists(any_item, max_size=7), any_item), min_size=1, max_size=20)
seeds = st.integers(0, 5)


@settings(max_examples=30)
@given(sequences_of_items, seeds)
def test_counts_are_those_of_a_loop(sequences: list[list[int]], seed: int) -> None:
    codes, items = random_codes(seed), np.arange(NUM_ITEMS + 1)
    for length, table in enumerate(prefix_transitions(index_of(sequences), codes), start=1):
        expected = naive_counts(sequences, codes, length)
        found = table.between(items[:, None], items)
        assert found.shape == (NUM_ITEMS + 1, NUM_ITEMS + 1, HOPS)
        assert not found[0].any()
        assert not found[:, 0].any()
        for u in range(1, NUM_ITEMS + 1):
            leaving = sum(
                n for (source, _, gap), n in expected.items() if gap == 1 and source == tuple(codes[u, :length])
            )
            for v in range(1, NUM_ITEMS + 1):
                pair = tuple(codes[u, :length]), tuple(codes[v, :length])
                counts = [expected[*pair, gap] for gap in range(1, HOPS + 1)]
                assert found[u, v].tolist() == counts
                assert table.strength(np.array(u), np.array(v)) == pytest.approx(counts[0] / leaving if leaving else 0)


def test_counts_at_full_length_are_those_of_the_items() -> None:
    random = np.random.default_rng(3)
    index = index_of([random.integers(1, NUM_ITEMS + 1, 9).tolist() for _ in range(8)])
    table = PrefixTransitions.build(index, random_codes(1), LEVELS)
    for item in range(1, NUM_ITEMS + 1):
        row = index.row("forward", item)
        for hop in range(HOPS):
            assert table.between(np.array(item), row.neighbours[hop])[:, hop].tolist() == row.counts[hop].tolist()
    assert table.counts.sum() == sum(counts.sum() for counts in index.forward.counts)


@settings(max_examples=50)
@given(sequences_of_items, instances, seeds)
def test_memorized_prefixes_are_those_of_set_arithmetic(
    sequences: list[list[int]], instances: list[tuple[list[int], int]], seed: int
) -> None:
    codes = random_codes(seed)
    histories, targets = [history for history, _ in instances], np.array([target for _, target in instances])
    found = memorize(prefix_transitions(index_of(sequences), codes), histories, targets)
    naive = [Naive(sequences, codes, length) for length in range(1, LEVELS + 1)]
    counts = [naive_counts(sequences, codes, length) for length in range(1, LEVELS + 1)]
    for row, (history, target) in enumerate(instances):
        hops = [rule.hop(history, target) for rule in naive]
        longest = max((length for length, hop in enumerate(hops, start=1) if hop), default=0)
        assert found.length[row] == longest
        assert found.hop[row] == (hops[longest - 1] if longest else 0)
        for length in range(1, LEVELS + 1):
            recent = [tuple(codes[item, :length]) for item in history[-HOPS:] if item]
            wanted = tuple(codes[target, :length]) if target else ()
            support = sum(n for (u, v, _), n in counts[length - 1].items() for p in recent if (p, wanted) == (u, v))
            assert found.support[row, length - 1] == support


@pytest.mark.parametrize(
    ("training", "history", "length", "hop", "support"),
    [
        ([[1, 2]], [1], 2, 1, [1, 1]),
        ([[3, 4]], [1], 1, 1, [1, 0]),  # 3 shares a code with 1, and 4 with 2
        ([[5, 6]], [1], 0, 0, [0, 0]),
        ([[1, 2]], [1, 5], 2, 2, [1, 1]),  # the second last item
        ([[1, 5, 5, 2]], [1], 2, 3, [1, 1]),  # a history of one item, and still hop 3
        ([[1, 2]], [1, 5, 5, 5, 5], 0, 0, [0, 0]),  # beyond the window of four
        ([[1, 5, 5, 2], [3, 4]], [1], 2, 3, [2, 1]),  # the longest prefix, though a shorter one is nearer
        ([[1, 2]], [], 0, 0, [0, 0]),
    ],
)
def test_memorized_prefixes_by_hand(
    training: list[list[int]], history: list[int], length: int, hop: int, support: list[int]
) -> None:
    codes = np.array([[0, 0], [0, 0], [1, 0], [0, 1], [1, 1], [2, 0], [2, 1]])
    found = memorize(prefix_transitions(index_of(training, 6), codes), [history], np.array([2]))
    assert (found.length[0], found.hop[0], found.support[0].tolist()) == (length, hop, support)


def test_candidates_of_a_request_are_judged_as_single_targets() -> None:
    random = np.random.default_rng(4)
    sequences = [random.integers(1, NUM_ITEMS + 1, 7).tolist() for _ in range(4)]
    prefixes = prefix_transitions(index_of(sequences), random_codes(2))
    histories = [random.integers(1, NUM_ITEMS + 1, random.integers(0, 6)).tolist() for _ in range(9)]
    candidates = random.integers(0, NUM_ITEMS + 1, (9, 5))
    together = memorize(prefixes, histories, candidates)
    alone = memorize(prefixes, [history for history in histories for _ in range(5)], candidates.ravel())
    assert together.length.shape == together.hop.shape == candidates.shape
    assert together.length.ravel().tolist() == alone.length.tolist()
    assert together.hop.ravel().tolist() == alone.hop.tolist()
    assert together.support.reshape(-1, LEVELS).tolist() == alone.support.tolist()
    assert set(alone.length.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("items", "length"), [(NUM_ITEMS - 1, 1), (NUM_ITEMS + 1, 1), (NUM_ITEMS, 0), (NUM_ITEMS, 4)])
def test_codes_of_another_catalogue_or_length_are_refused(items: int, length: int) -> None:
    with pytest.raises(BundleError, match=rf"{NUM_ITEMS} items .* 1\.\.3 codes; received {items} .* length {length}"):
        PrefixTransitions.build(index_of([[1, 2]]), np.zeros((items + 1, LEVELS), dtype=np.int64), length)
