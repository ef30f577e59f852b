"""The numbers of one request that `models.features` names, in compiled loops.

Shapes: `M` candidates of both lists, SASRec's first; `K` entries of one list. `columns` are the rows of a table
[features, M] that a function fills, in the order in which `models.features` names them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.links import count_links
from models.prefixes import PrefixTransitions, follow
from models.transitions import DIRECTIONS, HOPS, Edges

Floats = NDArray[np.floating]
Items = NDArray[np.int64]
Ranking = tuple[Items, Floats]

LIST_FEATURES = ("score", "listed", "normalised", "best", "mass")
LINK_FEATURES = ("after_last", "strength", "after_last_later", "after_recent", "linked", "before_recent", "before_last")
OWN_FEATURES = ("outgoing", "popularity", "last_popularity", "history")
PREFIX_FEATURES = ("after_last", "after_recent", "strength", "lift", "popularity")

_ABSENT = 0.5  # how far below a list's last score, in logits, an item that the list lacks is put
_TOP = 10  # entries of each list whose agreement is measured
_SIDES = len(DIRECTIONS)
_LIST, _LINK, _OWN = len(LIST_FEATURES), len(LINK_FEATURES), len(OWN_FEATURES)
_PREFIX = len(PREFIX_FEATURES)


@compiled
def fill(
    columns: Floats,
    request: Floats,
    sasrec: Ranking,
    generative: Ranking,
    aligned: tuple[Items, Floats, Floats],
    edges: Edges,
    recent: Items,
    length: int,
    popularity: NDArray[np.int64],
    prefixes: tuple[tuple[PrefixTransitions, Floats], ...],
) -> None:
    """Fill the features of one request: `columns` [C, M], zeros before, and `request` [R].

    Args:
        columns: two blocks of LIST_FEATURES, then LINK_FEATURES, OWN_FEATURES, and PREFIX_FEATURES by prefix length.
        request: as `models.features.REQUEST_FEATURES`.
        sasrec: items and log-probabilities [K].
        generative: likewise.
        aligned: the candidates, and their normalised scores in both lists [M], NaN where absent.
        edges: those of `models.context.Context`.
        recent: the last items of the history, the last one first.
        length: of the history.
        popularity: of all items [N + 1].
        prefixes: by length, the transitions between prefixes and the popularity of each.
    """
    candidates, slots = aligned[0], len(aligned[0])
    links = np.zeros((_SIDES, HOPS, HOPS, slots))
    outgoing = count_links(edges, candidates, links)
    begin = 2 * _LIST
    list_columns(columns[:_LIST], sasrec, aligned[1])
    list_columns(columns[_LIST:begin], generative, aligned[2])
    link_columns(columns[begin : begin + _LINK], links, outgoing)
    begin += _LINK
    columns[begin] = math.log1p(outgoing)
    columns[begin + 1] = np.log1p(popularity[candidates].astype(np.float64))
    columns[begin + 2] = math.log1p(popularity[recent[0]])
    columns[begin + 3] = math.log1p(length)
    begin += _OWN
    after_last, leaving = np.zeros(slots), 0.0
    order = np.argsort(prefixes[-1][0].prefix_of[candidates])
    for transitions, total in prefixes:
        after_last, after_recent = np.zeros(slots), np.zeros(slots)
        follow(transitions, recent, candidates, order, after_last, after_recent)
        leaving = float(transitions.outgoing[transitions.prefix_of[recent[0]]])
        own = total[transitions.prefix_of[candidates]]
        prefix_columns(columns[begin : begin + _PREFIX], after_last, after_recent, leaving, own)
        begin += _PREFIX
    request_values(request, sasrec, generative, candidates, aligned[2], links, outgoing, after_last, leaving)
    request[-2], request[-1] = math.log1p(outgoing), math.log1p(length)


@compiled
def list_columns(columns: Floats, ranking: Ranking, normalised: Floats) -> None:
    """LIST_FEATURES: where each candidate stands in one list, the list's best score, and its mass."""
    items, log_probability = ranking
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
    """LINK_FEATURES, from `counts` [2, HOPS, HOPS, M] of `models.links`; strength is phi, and recent items count at
    the distance that they have now."""
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
        columns[0, slot] = _log1p(after_last)
        columns[1, slot] = after_last / max(outgoing, 1.0)
        columns[2, slot] = _log1p(later)
        columns[3, slot] = _log1p(recent)
        columns[4, slot] = _log1p(linked)
        columns[5, slot] = _log1p(before)
        columns[6, slot] = _log1p(counts[1, 0, 0, slot])


@compiled
def prefix_columns(
    columns: Floats, after_last: Floats, after_recent: Floats, outgoing: float, popularity: Floats
) -> None:
    """PREFIX_FEATURES of one length, from counts [M]; strength is psi."""
    penalty = 0.5 * math.log1p(outgoing)
    for slot in range(len(after_last)):
        after = _log1p(after_last[slot])
        columns[0, slot] = after
        columns[1, slot] = _log1p(after_recent[slot])
        columns[2, slot] = after_last[slot] / max(outgoing, 1.0)
        columns[3, slot] = after - penalty
        columns[4, slot] = math.log1p(popularity[slot])


@compiled
def _log1p(count: float) -> float:
    """log(1 + count), where most counts are 0."""
    return math.log1p(count) if count else 0.0


@compiled
def request_values(
    values: Floats,
    sasrec: Ranking,
    generative: Ranking,
    candidates: Items,
    normalised: Floats,
    link_counts: Floats,
    outgoing: float,
    prefix_after_last: Floats,
    prefix_outgoing: float,
) -> None:
    """Fill `values` with the features of the request, but for the last two, which it shares with all candidates.

    `normalised` [M] is the generative list over the candidates; `prefix_after_last` [M] is of the longest prefixes.
    """
    values[0], values[1] = _best_and_entropy(sasrec)
    values[2], values[3] = _best_and_entropy(generative)
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
def _best_and_entropy(ranking: Ranking) -> tuple[float, float]:
    """The probability of a list's first entry, and the entropy in nats of the list, taken as a distribution."""
    items, log_probability = ranking
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
