"""How often training led from one semantic-id prefix to another: item transitions summed over prefixes.

The first n codes of a semantic id, pref_n, name a neighbourhood of items. C_n(u -> v) counts the training transitions
from any item that shares u's prefix to any item that shares v's (Ding et al., arXiv 2603.19809, section 4). Semantic
ids are unique, so at full length C_L(u -> v) counts the transitions from u to v themselves.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, lower_bound
from models.errors import BundleError
from models.transitions import HOPS, TransitionIndex

Indexes = NDArray[np.integer]

_FAR = 0.5  # what a transition at a distance beyond 1 counts in `follow`


class PrefixTransitions(NamedTuple):
    """The transitions between the prefixes of one length, in 12 bytes for each pair of prefixes and distance.

    Shapes: `N` items, `P` prefixes (numbered from 1; 0 is that of the padding), `E` pairs of prefixes with a distance.
    """

    prefix_of: NDArray[np.int32]
    """[N + 1]: the number of each item's prefix."""
    keys: NDArray[np.int64]
    """[E + 1], ascending: (source * (P + 1) + target) * HOPS + distance - 1, and an end no key reaches."""
    counts: NDArray[np.int32]
    """[E + 1]: how often each was seen."""
    outgoing: NDArray[np.int64]
    """[P + 1]: transitions of distance 1 that leave each prefix, C_n(p -> ·)."""

    @classmethod
    def build(cls, index: TransitionIndex, codes: Indexes, length: int) -> "PrefixTransitions":
        """Sum the forward transitions of `index` over the first `length` codes of semantic ids `codes` [N + 1, L].

        Raises:
            BundleError: `codes` is not a table for the items of `index`, or has no prefix of that length.
        """
        items, levels = len(codes) - 1, codes.shape[1]
        if items != index.num_items or not 1 <= length <= levels:
            raise BundleError(
                f"prefix transitions need one semantic id for each of the {index.num_items} items of the index and a "
                f"length of 1..{levels} codes; received {items} semantic ids and length {length}. Pass the codes and "
                "the index of one bundle."
            )
        prefix_of = _number(codes[:, :length])
        prefixes = int(prefix_of.max()) + 1
        rows = np.arange(items + 1)
        hops = zip(index.forward.offsets, index.forward.neighbours, strict=True)
        seen = [
            _pairs(prefix_of[np.repeat(rows, np.diff(offsets))], prefix_of[neighbours], prefixes) * HOPS + hop
            for hop, (offsets, neighbours) in enumerate(hops)
        ]
        keys, place = np.unique(np.concatenate(seen), return_inverse=True)
        counts = np.bincount(place, np.concatenate(index.forward.counts), minlength=len(keys))
        adjacent = keys % HOPS == 0
        return cls(
            prefix_of=prefix_of,
            keys=np.append(keys, np.iinfo(np.int64).max),
            counts=np.append(counts, 0).astype(np.int32),
            outgoing=np.bincount(keys // (prefixes * HOPS), counts * adjacent, minlength=prefixes).astype(np.int64),
        )

    def between(self, sources: Indexes, targets: Indexes) -> NDArray[np.int64]:
        """C_n(source -> target) at each exact distance 1..HOPS: [..., HOPS].

        `sources` and `targets` hold item indexes 0..N and broadcast against each other; the padding 0 has none.
        """
        pairs = _pairs(self.prefix_of[sources], self.prefix_of[targets], len(self.outgoing))
        found = np.zeros((*pairs.shape, HOPS), dtype=np.int64)
        _count(self.keys, self.counts, pairs.ravel(), found.reshape(-1, HOPS))
        return found

    def leaving(self, items: Indexes) -> NDArray[np.int64]:
        """C_n(source -> ·) of the prefixes of `items` [...]."""
        return self.outgoing[self.prefix_of[items]]

    def strength(self, sources: Indexes, targets: Indexes) -> NDArray[np.float64]:
        """C_n(source -> target) / C_n(source -> ·) over transitions of distance 1, 0 where none leaves: [...].

        Psi of figure 6 of the paper; at full length phi, the strength of the item transition itself.
        """
        return self.between(sources, targets)[..., 0] / np.maximum(self.leaving(sources), 1)


def prefix_transitions(index: TransitionIndex, codes: Indexes) -> tuple[PrefixTransitions, ...]:
    """The transitions between prefixes of 1, 2, ..., L codes, for semantic ids `codes` [N + 1, L]; row 0 is padding."""
    return tuple(PrefixTransitions.build(index, codes, length) for length in range(1, codes.shape[1] + 1))


def _number(prefixes: Indexes) -> NDArray[np.int32]:
    """Number the distinct rows of `prefixes` [N + 1, n] from 1, and the padding in row 0 as 0: [N + 1]."""
    numbers = np.unique(prefixes[1:], axis=0, return_inverse=True)[1]
    return np.concatenate([[0], numbers.ravel() + 1]).astype(np.int32)


def _pairs(sources: NDArray[np.int32], targets: NDArray[np.int32], prefixes: int) -> NDArray[np.int64]:
    """One number for each pair of prefixes."""
    return sources.astype(np.int64) * prefixes + targets


@compiled
def _count(
    keys: NDArray[np.int64], counts: NDArray[np.int32], pairs: NDArray[np.int64], found: NDArray[np.int64]
) -> None:
    """Fill `found` [n, HOPS] with the counts of pairs of prefixes [n]. The distances of a pair lie side by side."""
    for pair in range(len(pairs)):
        first = pairs[pair] * HOPS
        at = lower_bound(keys, first)
        while keys[at] < first + HOPS:
            found[pair, keys[at] - first] = counts[at]
            at += 1


@compiled
def follow(
    transitions: PrefixTransitions,
    recent: NDArray[np.int64],
    candidates: NDArray[np.int64],
    order: NDArray[np.int64],
    after_last: NDArray[np.floating],
    after_recent: NDArray[np.floating],
) -> None:
    """Count how often the prefixes of `candidates` [M] followed those of `recent` items [R], the last one first.

    Added to `after_last` [M] are the transitions of distance 1 from the last item's prefix, and to `after_recent` [M]
    those of all distances from all of them, where distances beyond 1 count half: they say less of what comes next.
    `order` [M] sorts the candidates by prefix, as prefixes of any greater length do: numbers of prefixes ascend with
    their codes.
    """
    keys, counts, prefixes = transitions.keys, transitions.counts, len(transitions.outgoing)
    for place in range(len(recent)):
        source = np.int64(transitions.prefix_of[recent[place]]) * prefixes
        begin, end = lower_bound(keys, source * HOPS), lower_bound(keys, (source + prefixes) * HOPS)
        for slot in order:
            if begin == end:
                break
            first = (source + transitions.prefix_of[candidates[slot]]) * HOPS
            while begin < end and keys[begin] < first:
                begin += 1
            at = begin  # stays for the next candidate, which may share the prefix
            while at < end and keys[at] < first + HOPS:
                adjacent = keys[at] == first
                after_recent[slot] += counts[at] if adjacent else _FAR * counts[at]
                if adjacent and place == 0:
                    after_last[slot] += counts[at]
                at += 1
