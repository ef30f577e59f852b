"""What the learned parts of the ensemble see of a request: of each candidate, and of the request as a whole.

Following the finding of arXiv 2603.19809, figure 6: TIGER wins where the item transition is weak (phi) but the prefix
transition strong (psi), SASRec where the item transition is strong.

Shapes: `B` requests, `M` candidates of both lists, `K` of them SASRec's, `C` candidate features, `R` request features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.ensemble import Aligned, Items
from models.histories import History
from models.indicators import Ranked
from models.links import Links, RowOf, links
from models.prefixes import PrefixTransitions
from models.transitions import HOPS, TransitionIndex

Floats = NDArray[np.float64]

LENGTHS = (1, 2, 3)
"""The prefix lengths that features are computed for; semantic ids of fewer levels have fewer."""

_FAR = 0.5  # what a transition between prefixes counts at distances beyond 1: it says less of what comes next
_PLACES = np.arange(1, HOPS)
_ABSENT = 0.5  # how far below a list's last score, in logits, an item that the list lacks is put

_LIST_FEATURES = ("score", "listed", "normalised", "best", "mass")
_PREFIX_FEATURES = ("after_last", "after_recent", "strength", "lift", "popularity")

CANDIDATE_FEATURES = (
    *(f"{source}_{name}" for source in ("sasrec", "generative") for name in _LIST_FEATURES),
    *("after_last", "strength", "after_last_later", "after_recent", "linked", "before_recent", "before_last"),
    *("outgoing", "popularity", "last_popularity", "history"),
    *(f"prefix_{name}_{length}" for length in LENGTHS for name in _PREFIX_FEATURES),
)
"""Names of the C features of a candidate; counts and popularities stand as log(1 + x)."""

REQUEST_FEATURES = (
    *("sasrec_best", "sasrec_entropy", "generative_best", "generative_entropy", "agreement"),
    *(f"transition_mass_{hop}" for hop in range(1, HOPS + 1)),
    *("strength_sasrec", "strength_generative", "prefix_strength_sasrec", "prefix_strength_generative"),
    *("outgoing", "history"),
)
"""Names of the R features of a request."""


class Context(NamedTuple):
    """What a request brings besides the two lists: its history (not empty) and the rows of the history's last items."""

    history: History
    rows: RowOf


class Lists(NamedTuple):
    """Both lists of `B` requests, with scores as log-probabilities."""

    sasrec: tuple[Items, Floats]  # items [B, K], log-probabilities [B, K]
    generative: tuple[Items, Floats]

    @classmethod
    def of(cls, ranked: Ranked, generated: tuple[Items, NDArray[np.floating]]) -> "Lists":
        """Take the answers of the graphs."""
        log_probability = ranked.scores.astype(np.float64) - ranked.log_partition[:, None]
        return cls((ranked.items, log_probability), (generated[0], generated[1].astype(np.float64)))


class Features(NamedTuple):
    """Features of `B` requests: `candidates` [B, M, C] and `request` [B, R]."""

    candidates: Floats
    request: Floats


class Prefixes(NamedTuple):
    """The transitions between prefixes of one length, and their popularity [P + 1] in training interactions."""

    transitions: PrefixTransitions
    popularity: NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What the features take from the bundle rather than from the request."""

    popularity: NDArray[np.int64]  # [N + 1]
    prefixes: tuple[Prefixes, ...]  # by length

    @classmethod
    def build(cls, transitions: TransitionIndex, codes: NDArray[np.integer], popularity: NDArray[np.int64]) -> "Facts":
        """Derive them from the index, the semantic ids [N + 1, D] and the popularity [N + 1] of a bundle."""
        lengths = [length for length in LENGTHS if length < codes.shape[1]]
        found = [PrefixTransitions.build(transitions, codes, length) for length in lengths]
        return cls(
            popularity,
            tuple(
                Prefixes(prefixes, np.bincount(prefixes.prefix_of, popularity).astype(np.int64)) for prefixes in found
            ),
        )


class PrefixLinks(NamedTuple):
    """Transitions between the prefixes of a history's last items and those of candidates, by prefix length."""

    after_last: Floats  # [P, M], of distance 1 from the last item's prefix
    after_recent: Floats  # [P, M], of all distances from the last HOPS items' prefixes, the farther ones by _FAR
    outgoing: Floats  # [P, 1], of distance 1 from the last item's prefix to any
    popularity: Floats  # [P, M], of all items that share the candidate's prefix

    @classmethod
    def of(cls, prefixes: Sequence[Prefixes], history: History, candidates: Items) -> "PrefixLinks":
        """Count them for `candidates` [M]."""
        recent = np.asarray(history[: -HOPS - 1 : -1], dtype=np.int64)
        counts = np.stack([part.transitions.count(recent[:, None], candidates) for part in prefixes]).astype(np.float64)
        near, far = counts[..., 0], counts[..., 1:].sum(axis=-1)  # P, place in the history, M
        of_last = [part.transitions.outgoing[part.transitions.prefix_of[recent[0]]] for part in prefixes]
        popularity = [part.popularity[part.transitions.prefix_of[candidates]] for part in prefixes]
        return cls(
            after_last=near[:, 0],
            after_recent=(near + _FAR * far).sum(axis=1),
            outgoing=np.array(of_last, dtype=np.float64)[:, None],
            popularity=np.array(popularity, dtype=np.float64),
        )


def compute(lists: Lists, aligned: Aligned, contexts: Sequence[Context], facts: Facts) -> Features:
    """All features of requests whose lists `aligned` holds side by side."""
    answers = [
        _features(
            Lists(*((items[row], scores[row]) for items, scores in lists)),
            Aligned(*(values[row] for values in aligned)),
            context,
            facts,
        )
        for row, context in enumerate(contexts)
    ]
    return Features(*(np.stack(values) for values in zip(*answers, strict=True)))


def _features(lists: Lists, aligned: Aligned, context: Context, facts: Facts) -> Features:
    """The features of one request: arrays as in `Lists` and `Aligned`, without the leading B."""
    of_items = links(context.rows, context.history, aligned.items)
    of_prefixes = PrefixLinks.of(facts.prefixes, context.history, aligned.items)
    of_request = {
        **_request_features(lists, aligned, of_items, of_prefixes),
        "outgoing": np.log1p(of_items.outgoing),
        "history": np.log1p(len(context.history)),
    }
    of_candidates = {
        **_list_features("sasrec", lists.sasrec, aligned.sasrec),
        **_list_features("generative", lists.generative, aligned.generative),
        **_link_features(of_items),
        **_prefix_features(of_prefixes),
        "popularity": np.log1p(facts.popularity[aligned.items]),
        "last_popularity": np.log1p(facts.popularity[context.history[-1]]),
        **of_request,
    }
    columns = np.empty((len(CANDIDATE_FEATURES), len(aligned.items)))
    for column, name in zip(columns, CANDIDATE_FEATURES, strict=True):
        column[:] = of_candidates.get(name, 0.0)  # 0: a prefix length that these semantic ids do not have
    return Features(np.ascontiguousarray(columns.T), np.array([of_request[name] for name in REQUEST_FEATURES]))


def _list_features(
    source: str, ranked: tuple[Items, Floats], normalised: NDArray[np.floating]
) -> dict[str, NDArray[np.floating]]:
    """Where each candidate stands in one list."""
    scores = ranked[1][ranked[0] > 0]
    low, high = (scores.min(), scores.max()) if scores.size else (0.0, 0.0)
    listed = ~np.isnan(normalised)
    values = np.where(listed, normalised, 0.0)
    found = (
        np.where(listed, low + values * (high - low), low - _ABSENT),
        listed,
        values,
        np.asarray(high),
        np.exp(scores).sum(keepdims=True),
    )
    return {f"{source}_{name}": value for name, value in zip(_LIST_FEATURES, found, strict=True)}


def _link_features(found: Links) -> dict[str, Floats]:
    forward, backward = found.counts
    counts = {
        "after_last": forward[0, 0],
        "after_last_later": forward[0, 1:].sum(axis=0),
        "after_recent": forward[_PLACES, _PLACES].sum(axis=0),  # as far from the candidate then as now
        "linked": forward.sum(axis=(0, 1)),
        "before_recent": backward.sum(axis=(0, 1)),
        "before_last": backward[0, 0],
    }
    logarithms = np.log1p(np.array(list(counts.values())))
    return {**dict(zip(counts, logarithms, strict=True)), "strength": forward[0, 0] / max(found.outgoing, 1.0)}  # phi


def _prefix_features(found: PrefixLinks) -> dict[str, Floats]:
    outgoing = found.outgoing
    after_last, after_recent, popularity = np.log1p(np.array([found.after_last, found.after_recent, found.popularity]))
    values = (
        after_last,
        after_recent,
        found.after_last / np.maximum(outgoing, 1.0),  # psi
        after_last - 0.5 * np.log1p(outgoing),
        popularity,
    )
    return {
        f"prefix_{name}_{length}": value[row]
        for name, value in zip(_PREFIX_FEATURES, values, strict=True)
        for row, length in zip(range(len(found.outgoing)), LENGTHS, strict=False)
    }


def _request_features(lists: Lists, aligned: Aligned, of_items: Links, of_prefixes: PrefixLinks) -> dict[str, float]:
    sasrec, generative = (np.where(items > 0, np.exp(scores), 0.0) for items, scores in lists)
    after_last = of_items.counts[0, 0]  # hop, candidate
    strength = after_last[0] / max(of_items.outgoing, 1.0)
    prefix_strength = of_prefixes.after_last[-1] / max(float(of_prefixes.outgoing[-1, 0]), 1.0)
    # Of the candidates, SASRec's stand first, best first; the generative model's best may be one of these.
    best_generative = int(np.fmax(aligned.generative, -1.0).argmax())  # fmax: NaN, of an absent item, loses
    return {
        "sasrec_best": sasrec[0],
        "sasrec_entropy": _entropy(sasrec),
        "generative_best": generative[0],
        "generative_entropy": _entropy(generative),
        "agreement": len({*lists.sasrec[0][:10].tolist()} & {*lists.generative[0][:10].tolist()}) / 10.0,
        **{
            f"transition_mass_{hop}": float(sasrec @ (after_last[hop - 1, : len(sasrec)] > 0))
            for hop in range(1, HOPS + 1)
        },
        "strength_sasrec": strength[0],
        "strength_generative": strength[best_generative],
        "prefix_strength_sasrec": prefix_strength[0],
        "prefix_strength_generative": prefix_strength[best_generative],
    }


def _entropy(probabilities: Floats) -> float:
    """Shannon entropy in nats of a list, taken as a distribution over its items; 0 for an empty one."""
    total = probabilities.sum()
    shares = probabilities[probabilities > 0] / total if total > 0 else np.ones(1)
    return float(-(shares * np.log(shares)).sum())
