"""What the learned parts of the ensemble see of a request: of each candidate, and of the request as a whole.

Following the finding of arXiv 2603.19809, figure 6: TIGER wins where the item transition is weak (phi) but the prefix
transition strong (psi), SASRec where the item transition is strong.

Shapes: `B` requests, `M` candidates of both lists, `K` of them SASRec's, `C` candidate features, `R` request features.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.context import Context
from models.ensemble import Aligned, Items
from models.feature_columns import link_columns, list_columns, prefix_columns, request_values
from models.indicators import Ranked
from models.links import links
from models.prefixes import PrefixTransitions
from models.transitions import HOPS, TransitionIndex

Floats = NDArray[np.float64]

LENGTHS = (1, 2, 3)
"""The prefix lengths that features are computed for; semantic ids of fewer levels have fewer."""

_LIST_FEATURES = ("score", "listed", "normalised", "best", "mass")
_LINK_FEATURES = (
    "after_last",
    "strength",
    "after_last_later",
    "after_recent",
    "linked",
    "before_recent",
    "before_last",
)
_OWN_FEATURES = ("outgoing", "popularity", "last_popularity", "history")
_PREFIX_FEATURES = ("after_last", "after_recent", "strength", "lift", "popularity")

CANDIDATE_FEATURES = (
    *(f"{source}_{name}" for source in ("sasrec", "generative") for name in _LIST_FEATURES),
    *_LINK_FEATURES,
    *_OWN_FEATURES,
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


# Where in CANDIDATE_FEATURES a new block of columns begins.
_BLOCKS = np.cumsum(
    [
        *(len(names) for names in (_LIST_FEATURES, _LIST_FEATURES, _LINK_FEATURES, _OWN_FEATURES)),
        *[len(_PREFIX_FEATURES)] * (len(LENGTHS) - 1),
    ]
)


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
    popularity: Floats

    def popularity_of(self, items: Items) -> Floats:
        """Of the prefixes of `items` [M]."""
        return self.popularity[self.transitions.prefix_of[items]]


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
                Prefixes(prefixes, np.bincount(prefixes.prefix_of, popularity).astype(np.float64)) for prefixes in found
            ),
        )


def compute(lists: Lists, aligned: Aligned, contexts: Iterable[Context], facts: Facts) -> Features:
    """All features of requests whose lists `aligned` holds side by side."""
    requests, candidates = aligned.items.shape
    found = Features(
        np.zeros((requests, len(CANDIDATE_FEATURES), candidates)), np.zeros((requests, len(REQUEST_FEATURES)))
    )
    for row, context in zip(range(requests), contexts, strict=True):
        _fill(
            Features(*(values[row] for values in found)),
            Lists(*((items[row], scores[row]) for items, scores in lists)),
            Aligned(*(values[row] for values in aligned)),
            context,
            facts,
        )
    return Features(found.candidates.transpose(0, 2, 1), found.request)


def _fill(features: Features, lists: Lists, aligned: Aligned, context: Context, facts: Facts) -> None:
    """Fill the features of one request, [C, M] and [R]; arrays as in `Lists` and `Aligned`, without the leading B."""
    candidates, recent = aligned.items, context.recent
    of_items = links(context.edges, candidates)
    outgoing, length = np.log1p(of_items.outgoing), np.log1p(len(context.history))
    columns = iter(np.split(features.candidates, _BLOCKS))
    list_columns(next(columns), *lists.sasrec, aligned.sasrec)
    list_columns(next(columns), *lists.generative, aligned.generative)
    link_columns(next(columns), *of_items)
    own = next(columns)
    own[0], own[1] = outgoing, np.log1p(facts.popularity[candidates])
    own[2], own[3] = np.log1p(facts.popularity[recent[0]]), length
    for prefixes in facts.prefixes:  # lengths that these semantic ids do not have stay 0
        after_last, after_recent = prefixes.transitions.follow(recent, candidates)
        prefix_outgoing = float(prefixes.transitions.leaving(recent[0]))
        prefix_columns(next(columns), after_last, after_recent, prefix_outgoing, prefixes.popularity_of(candidates))
    request_values(
        features.request,
        lists.sasrec,
        lists.generative,
        candidates,
        aligned.generative,
        *of_items,
        after_last,
        prefix_outgoing,
    )
    features.request[-2:] = outgoing, length
