"""Constrained beam search inside one graph: encoder, all levels, trie, top-k and item look-up.

The beams of a request are query positions, not batch rows: keys and values of the history are computed once and
never copied. Self-attention keeps one un-gathered cache (start, then K beams of each level) and an additive mask
that lets a beam see only its ancestors. Candidates are the children of a beam's trie node, not the V codes.

Shapes: `B` requests, `K` beams, `W` the largest fan-out of a level, `D` levels, `T` encoder tokens.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.networks.tiger import Tiger, padding_bias

BLOCKED = float("-inf")


class Level(NamedTuple):
    """The trie tables of one level (see `models.trie.Trie`) and the nodes each request may use."""

    start: Tensor  # int32 [nodes + 1]
    code: Tensor  # int32 [children]
    span: Tensor  # int32 [W]
    allowed: Tensor  # bool [B, children]


class Beams(NamedTuple):
    """The state of a search: K prefixes a request."""

    scores: Tensor  # float32 [B, K], sum of log-probabilities, -inf for an empty slot
    nodes: Tensor  # int64 [B, K], trie node of each prefix
    parents: Tensor  # int64 [B, K], the beam of the level before that each one extends
    codes: Tensor  # int64 [B, K], its last code


class Candidates(NamedTuple):
    """All children of all beams of a level."""

    edges: Tensor  # int64 [B, K, W], child node
    codes: Tensor  # int64 [B, K, W]
    exists: Tensor  # bool [B, K, W]: false where a node has fewer than W children
    usable: Tensor  # bool [B, K, W]: exists and allowed for this request


def root(batch: Tensor) -> Beams:
    """One beam, at the root, for each row of `batch`."""
    zero = torch.zeros_like(batch[:, :1])
    return Beams(zero.float(), zero, zero, zero)


def children(beams: Beams, level: Level) -> Candidates:
    """The children of every beam's node."""
    first, count = children_of(beams, level)
    exists = level.span < count.unsqueeze(-1)  # B, K, W
    edges = torch.where(exists, first.unsqueeze(-1) + level.span, 0)
    usable = exists & level.allowed.gather(1, edges.flatten(1)).view_as(edges)
    return Candidates(edges, look_up(level.code, edges).long(), exists, usable)


def children_of(beams: Beams, level: Level) -> tuple[Tensor, Tensor]:
    """The first child and the number of children of every beam's node, int64 [B, K] each."""
    first = look_up(level.start, beams.nodes).long()
    return first, look_up(level.start, beams.nodes + 1).long() - first


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """`table[index]` for a table [n], which `training.export` writes as one `Gather`.

    Indexing would become `GatherND`, which ONNX Runtime has for int32 on a CPU only: on a GPU each one would cost two
    copies between host and device, and rule out CUDA graphs.
    """
    return torch.take(table, index)


def renormalise(logits: Tensor, candidates: Candidates) -> Tensor:
    """Log-probabilities over the existing children only; what a request allows never changes a score."""
    existing = torch.where(candidates.exists, logits, BLOCKED)
    # An empty slot stands at node 0, which has children, so that no row is -inf throughout.
    return torch.log_softmax(existing, dim=-1)


def select(beams: Beams, candidates: Candidates, log_probabilities: Tensor, width: int) -> Beams:
    """The best `width` of all candidates [B, K, W], best first; missing ones are slots with score -inf."""
    fan_out = candidates.edges.shape[-1]
    totals = torch.where(candidates.usable, beams.scores.unsqueeze(-1) + log_probabilities, BLOCKED).flatten(1)
    # Padding by `width` empty slots keeps top-k legal where a level has fewer candidates than beams.
    empty = totals.new_full((totals.shape[0], width), BLOCKED)
    scores, flat = torch.cat([totals, empty], dim=1).topk(width, dim=1)
    flat = torch.where(scores == BLOCKED, 0, flat)
    nodes = candidates.edges.flatten(1).gather(1, flat)
    return Beams(scores, nodes, flat // fan_out, candidates.codes.flatten(1).gather(1, flat))


def items_of(beams: Beams, leaf_item: Tensor) -> Tensor:
    """Item indexes [B, K] of finished beams, 0 for an empty slot."""
    return torch.where(beams.scores == BLOCKED, 0, look_up(leaf_item, beams.nodes))


def search(
    step: Callable[[Beams, int], Tensor],
    batch: Tensor,
    levels: Sequence[Level],
    width: int,
    *,
    renormalised: bool,
    widths: Sequence[int] = (),
) -> Beams:
    """Run all levels; `step(beams, t)` gives log-probabilities [B, K, V] of the codes of level t, or their logits if
    scores are `renormalised`: a softmax over the children is the same for both.

    A level keeps `width` beams, or as many as there are codes leading to it (V after the first level, V * V after the
    second) where those are fewer: no prefix is lost. `widths` are what the levels before the last keep instead; what
    they drop may lead to an item of the full beam, so that the answer is approximate.
    """
    last = len(levels) - 1
    if widths and (len(widths) != last or min(widths) < 1):
        raise ValueError(
            f"widths must give each of the {last} levels before the last at least one beam, got {list(widths)}"
        )
    beams, prefixes = root(batch), 1
    for t, level in enumerate(levels):
        candidates = children(beams, level)
        log_probabilities = step(beams, t)
        prefixes *= log_probabilities.shape[-1]
        log_probabilities = log_probabilities.gather(2, candidates.codes)
        if renormalised:
            log_probabilities = renormalise(log_probabilities, candidates)
        kept = width if t == last else min(widths[t] if widths else width, prefixes)
        beams = select(beams, candidates, log_probabilities, kept)
    return beams


def extend(cache: list[tuple[Tensor, Tensor]], layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Add a level's keys and values to a layer of `cache`, along axis 2, and return all of that layer."""
    if layer < len(cache):
        past_keys, past_values = cache[layer]
        cache[layer] = torch.cat([past_keys, keys], dim=2), torch.cat([past_values, values], dim=2)
    else:
        cache.append((keys, values))
    return cache[layer]


class TigerBeam(nn.Module):
    """TIGER's beam search as one graph.

    With `renormalised=False` the scores are those of Hugging Face `generate` with `num_beams=width`,
    `prefix_allowed_tokens_fn` and `length_penalty=0`. `widths` make the answer approximate (see `search`).
    """

    def __init__(self, tiger: Tiger, width: int, *, renormalised: bool = False, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.tiger, self.width, self.renormalised, self.widths = tiger, width, renormalised, tuple(widths)

    def forward(
        self, history: Tensor, item_codes: Tensor, leaf_item: Tensor, levels: Sequence[Level]
    ) -> tuple[Tensor, Tensor]:
        """Items int64 [B, width] and scores float32 [B, width], best first."""
        states, real = self.tiger.encoder(history, item_codes)
        steps = _TigerSteps(self.tiger, states, real)
        beams = search(steps, history, levels, self.width, renormalised=self.renormalised, widths=self.widths)
        return items_of(beams, leaf_item), beams.scores


class _TigerSteps:
    """The decoder, one level a call, over caches that grow by the beams of that level."""

    def __init__(self, tiger: Tiger, states: Tensor, real: Tensor) -> None:
        self.tiger = tiger
        self.bias = tiger.decoder.position_bias(tiger.config.levels)  # heads, D, D
        self.cross = [block.cross.keys_values(states) for block in tiger.decoder.blocks]
        self.cross_bias = padding_bias(real, states)
        self.cache: list[tuple[Tensor, Tensor]] = []
        # visible[b, k, s]: 0 where cached position s is an ancestor of beam k (or k itself), -inf elsewhere.
        self.visible = torch.zeros_like(states[:, :1, :1])
        self.widths: list[int] = []

    def __call__(self, beams: Beams, t: int) -> Tensor:
        tiger = self.tiger
        x = tiger.encoder.embedding(tiger.beam_token(beams.codes, t))  # B, K, d
        bias = self._bias(beams, t, beams.nodes.shape[1])
        for layer, block in enumerate(tiger.decoder.blocks):
            normed = block.attention.norm(x)
            keys, values = extend(self.cache, layer, *block.attention.keys_values(normed))
            x = x + block.attention.attend(normed, keys, values, bias)
            cross_keys, cross_values = self.cross[layer]
            x = block.after_self(x, cross_keys, cross_values, self.cross_bias)
        return tiger.level_of(torch.log_softmax(tiger.output(tiger.decoder.norm(x)).float(), dim=-1), t)

    def _bias(self, beams: Beams, t: int, width: int) -> Tensor:
        """Position bias plus ancestor mask, [B, heads, K, cached positions]."""
        if t:
            beam = torch.arange(width, device=self.bias.device)
            itself = torch.where(beam[:, None] == beam, 0.0, BLOCKED)
            index = beams.parents.unsqueeze(-1).expand(-1, -1, self.visible.shape[-1])
            inherited = self.visible.gather(1, index)
            self.visible = torch.cat([inherited, itself.expand(inherited.shape[0], -1, -1)], dim=2)
        self.widths.append(width)
        # Every beam of level s stands at decoder position s, so a level shares one bias value a head.
        by_position = torch.cat([self.bias[:, t, s : s + 1].expand(-1, w) for s, w in enumerate(self.widths)], dim=1)
        return self.visible.unsqueeze(1) + by_position[None, :, None, :]
