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
from models.feature_columns import LINK_FEATURES, LIST_FEATURES, OWN_FEATURES, PREFIX_FEATURES, fill
from models.indicators import Ranked
from models.prefixes import PrefixTransitions
from models.transitions import HOPS, TransitionIndex

Floats = NDArray[np.float64]

LENGTHS = (1, 2, 3)
"""The prefix lengths that features are computed for; semantic ids of fewer levels have fewer."""

CANDIDATE_FEATURES = (
    *(f"{source}_{name}" for source in ("sasrec", "generative") for name in LIST_FEATURES),
    *LINK_FEATURES,
    *OWN_FEATURES,
    *(f"prefix_{name}_{length}" for length in LENGTHS for name in PREFIX_FEATURES),
)
"""Names of the C features of a candidate; counts and popularities stand as log(1 + x)."""

REQUEST_FEATURES = (
    *("sasrec_best", "sasrec_entropy", "generative_best", "generative_entropy", "agreement"),
    *(f"transition_mass_{hop}" for hop in range(1, HOPS + 1)),
    *("strength_sasrec", "strength_generative", "prefix_strength_sasrec", "prefix_strength_generative"),
    *("outgoing", "history"),
)
"""Names of the R features of a request."""


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
        fill(
            found.candidates[row],
            found.request[row],
            (lists.sasrec[0][row], lists.sasrec[1][row]),
            (lists.generative[0][row], lists.generative[1][row]),
            (aligned.items[row], aligned.sasrec[row], aligned.generative[row]),
            context.edges,
            context.recent,
            len(context.history),
            facts.popularity,
            facts.prefixes,
        )
    return Features(found.candidates.transpose(0, 2, 1), found.request)
