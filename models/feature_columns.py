"""The numbers of one request that `models.features` names, in compiled loops.

Shapes: `M` candidates of both lists, SASRec's first; `K` entries of one list. `columns` are the rows of a table
[features, M] that a function fills, in the order in which `models.features` names them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.transitions import HOPS

Floats = NDArray[np.floating]
Items = NDArray[np.int64]

_ABSENT = 0.5  # how far below a list's last score, in logits, an item that the list lacks is put
_TOP = 10  # entries of each list whose agreement is measured


@compiled
def list_columns(columns: Floats, items: Items, log_probability: Floats, normalised: Floats) -> None:
    """Where each candidate stands in one list: score, whether it is listed, normalised score, the best score, the mass.

    `items` and `log_probability` are the list [K]; `normalised` [M] has its candidates, NaN for what it lacks.
    """
    low, high, mass, empty = 0.0, 0.0, 0.0, True
    for entry in range(len(items)):
        if items[entry] > 0:
            score = log_probability[entry]
            low, high = (score, score) if empty else (min(low, score), max(high, score))
            mass += math.exp(score)
            empty = False
    for slot in range(len(normalised)):
        listed = not math.isnan(normalised[slot])
        value = normalised[slot] if listed else 0.0
        columns[0, slot] = low + value * (high - low) if listed else low - _ABSENT
        columns[1, slot] = listed
        columns[2, slot] = value
        columns[3, slot] = high
        columns[4, slot] = mass


@compiled
def link_columns(columns: Floats, counts: Floats, outgoing: float) -> None:
    """What `counts` [2, HOPS, HOPS, M] of `models.links.Links` say: after the last item (and as a strength, phi), after
    it at a longer distance, as far from a recent item as now, linked at all; then before any recent item, before the
    last."""
    for slot in range(counts.shape[3]):
        later = recent = linked = before = 0.0
        for place in range(HOPS):
            for hop in range(HOPS):
                linked += counts[0, place, hop, slot]
                before += counts[1, place, hop, slot]
            if place:
                later += counts[0, 0, place, slot]
                recent += counts[0, place, place, slot]
        after_last = counts[0, 0, 0, slot]
        columns[0, slot] = math.log1p(after_last)
        columns[1, slot] = after_last / max(outgoing, 1.0)
        columns[2, slot] = math.log1p(later)
        columns[3, slot] = math.log1p(recent)
        columns[4, slot] = math.log1p(linked)
        columns[5, slot] = math.log1p(before)
        columns[6, slot] = math.log1p(counts[1, 0, 0, slot])


@compiled
def prefix_columns(
    columns: Floats, after_last: Floats, after_recent: Floats, outgoing: float, popularity: Floats
) -> None:
    """The transitions between prefixes of one length [M]: after the last one, after recent ones, strength (psi), lift,
    and the popularity of the candidate's prefix."""
    for slot in range(len(after_last)):
        columns[0, slot] = math.log1p(after_last[slot])
        columns[1, slot] = math.log1p(after_recent[slot])
        columns[2, slot] = after_last[slot] / max(outgoing, 1.0)
        columns[3, slot] = math.log1p(after_last[slot]) - 0.5 * math.log1p(outgoing)
        columns[4, slot] = math.log1p(popularity[slot])


@compiled
def request_values(
    values: Floats,
    sasrec: tuple[Items, Floats],
    generative: tuple[Items, Floats],
    candidates: Items,
    normalised: Floats,
    link_counts: Floats,
    outgoing: float,
    prefix_after_last: Floats,
    prefix_outgoing: float,
) -> None:
    """Fill `values` with the features of the request, but for the history's own.

    The lists come as items and log-probabilities [K]; `normalised` [M] is the generative list over `candidates` [M];
    `link_counts` as in `link_columns`; `prefix_after_last` [M] is that of the longest prefixes.
    """
    values[0], values[1] = _best_and_entropy(sasrec[0], sasrec[1])
    values[2], values[3] = _best_and_entropy(generative[0], generative[1])
    common = 0
    for item in sasrec[0][:_TOP]:
        common += item > 0 and (generative[0][:_TOP] == item).any()
    values[4] = common / _TOP
    for hop in range(HOPS):
        mass = 0.0
        for slot in range(len(sasrec[0])):
            if candidates[slot] > 0 and link_counts[0, 0, hop, slot] > 0:
                mass += math.exp(sasrec[1][slot])
        values[5 + hop] = mass
    best = 0  # the generative model's best: where SASRec lists it too, it stands there
    for slot in range(len(candidates)):
        if normalised[slot] > (normalised[best] if not math.isnan(normalised[best]) else -1.0):
            best = slot
    values[5 + HOPS] = link_counts[0, 0, 0, 0] / max(outgoing, 1.0)
    values[6 + HOPS] = link_counts[0, 0, 0, best] / max(outgoing, 1.0)
    values[7 + HOPS] = prefix_after_last[0] / max(prefix_outgoing, 1.0)
    values[8 + HOPS] = prefix_after_last[best] / max(prefix_outgoing, 1.0)


@compiled
def _best_and_entropy(items: Items, log_probability: Floats) -> tuple[float, float]:
    """The probability of a list's first entry, and the entropy in nats of the list, taken as a distribution."""
    total = weighted = 0.0
    for entry in range(len(items)):
        if items[entry] > 0:
            probability = math.exp(log_probability[entry])
            total += probability
            weighted += probability * log_probability[entry]
    if total == 0.0:
        return 0.0, 0.0
    best = math.exp(log_probability[0]) if items[0] > 0 else 0.0
    return best, math.log(total) - weighted / total
