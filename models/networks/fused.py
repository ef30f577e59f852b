"""TIGER's weights rearranged for decoding: the same function of the same weights, in fewer and larger operations.

`FusedEncoder` and `FusedTigerBeam` are made from a network whose training is over, as they hold tables of its weights,
and go into the ONNX graphs. What differs from `models.networks.tiger` and `TigerBeam`:

- Heads stay side by side in the last axis, as ONNX's `Attention` takes them: no transpose, no reshape.
- What the first block of a stack computes from a token before it attends depends on the token alone. It is a table.
- The position bias of the encoder is a constant, of which a request takes the corner it needs.
- So is all that the first block of the decoder computes before it reads the history, at the first two levels.
- The first step has one key, so its attention is that key's value. A later one has a key a level, so its attention is
  products by element with the keys of the beam's own path.
- The scale of the output head is in the weight of the norm before it.

Shapes: `B` requests, `K` beams, `S` positions, `T` encoder tokens, `d` d_model, `I` heads * d_kv.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.beam import Beams, Level, items_of, search
from models.networks.stack import stack
from models.networks.tiger import RMS_EPSILON, Attention, Encoder, FeedForward, Tiger, padding_bias

Path = Sequence[tuple[Tensor, Tensor]]
"""Keys and values, each [B, K, I], of every position that a beam sees; K is 1 where all beams see the same."""


class FusedAttention(nn.Module):
    """Attention whose queries, keys and values are [B, S, I], each from a product of its own."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.norm = attention.heads, attention.norm
        self.query, self.output = attention.query, attention.output
        self.key, self.value = (linear(weight) for weight in attention.key_value.weight.chunk(2))

    def project(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of normed states [B, S, d]."""
        return self.query(normed), self.key(normed), self.value(normed)

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attention output [B, S, d] under `mask`, [B, heads or 1, S, keys]: ONNX Runtime broadcasts no other axis."""
        heads = self.heads
        mixed, *_ = torch.onnx.ops.attention(
            queries, keys, values, mask, q_num_heads=heads, kv_num_heads=heads, scale=1.0
        )
        return self.output(mixed)  # type: ignore[no-any-return]

    def mix_path(self, queries: Tensor, path: Path, bias: Tensor) -> Tensor:
        """Attention output [B, K, d] where each query of [B, K, I] has a path of its own.

        With so few keys, products by element are faster than a matrix product for each query and head, or than all
        queries against all keys under a mask; one product a position, than first to lay the positions side by side.
        `bias` is [heads, positions].
        """
        width, inner = queries.shape[1:]
        by_head = self._by_head(queries)
        logits = torch.cat([(by_head * self._by_head(keys)).sum(-1, keepdim=True) for keys, _ in path], dim=-1)
        shares = torch.softmax(logits + bias, dim=-1).chunk(len(path), dim=-1)  # of each position, B, K, heads, 1
        parts = [share * self._by_head(values) for share, (_, values) in zip(shares, path, strict=True)]
        mixed = functools.reduce(torch.add, parts)  # B, K, heads, d_kv
        return self.output(mixed.reshape(-1, width, inner))  # type: ignore[no-any-return]

    def _by_head(self, x: Tensor) -> Tensor:
        """[B, K, I] -> [B, K, heads, d_kv]; with -1 for the batch, no arithmetic of shapes goes into the graph."""
        return x.reshape(-1, x.shape[1], self.heads, x.shape[2] // self.heads)


class FirstProjection(nn.Module):
    """Queries, keys and values of the first block of a stack, by token: three tables [vocabulary, I]."""

    query: Tensor
    key: Tensor
    value: Tensor

    def __init__(self, attention: FusedAttention, embedding: nn.Embedding) -> None:
        super().__init__()
        with torch.no_grad():
            tables = attention.project(attention.norm(embedding.weight))
        for name, table in zip(("query", "key", "value"), tables, strict=True):
            self.register_buffer(name, table)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, S, I] of tokens [B, S]."""
        return F.embedding(tokens, self.query), F.embedding(tokens, self.key), F.embedding(tokens, self.value)


class Opening(nn.Module):
    """What the decoder's first block has computed when it comes to read the history, at the first two levels.

    A beam is the start there, or the start and one code, so that its last token tells all: two tables over the start
    and the codes of the first level, of states [1 + V, d] and of queries [1 + V, I] for the history.
    """

    states: Tensor
    queries: Tensor

    def __init__(self, tiger: Tiger, own: FusedAttention, cross: FusedAttention, first: FirstProjection) -> None:
        super().__init__()
        tokens = torch.arange(1 + tiger.config.codebook_size).unsqueeze(0)
        with torch.no_grad():
            queries, keys, values = first(tokens)
            path = [(keys[:, :1], values[:, :1]), (keys[:, 1:], values[:, 1:])]
            mixed = own.mix_path(queries[:, 1:], path, tiger.decoder.position_bias(2)[:, 1])
            states = tiger.encoder.embedding(tokens) + torch.cat([own.output(values[:, :1]), mixed], dim=1)
            self.register_buffer("states", states[0])
            self.register_buffer("queries", cross.query(cross.norm(states))[0])

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, K, d] and queries [B, K, I] of tokens [B, K]."""
        return F.embedding(tokens, self.states), F.embedding(tokens, self.queries)


class FusedEncoderBlock(nn.Module):
    """Self-attention and feed-forward, the projections of the former given."""

    def __init__(self, attention: Attention, feed_forward: FeedForward) -> None:
        super().__init__()
        self.attention, self.feed_forward = FusedAttention(attention), feed_forward

    def forward(self, x: Tensor, projected: tuple[Tensor, Tensor, Tensor], mask: Tensor) -> Tensor:  # noqa: D102
        return self.feed_forward(x + self.attention.mix(*projected, mask))  # type: ignore[no-any-return]


class FusedEncoder(nn.Module):
    """`models.networks.tiger.Encoder` for histories of up to `max_history` items."""

    position_bias: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        config = encoder.config
        self.encoder, self.embedding = encoder, encoder.embedding
        self.blocks = stack(FusedEncoderBlock(block.attention, block.feed_forward) for block in encoder.blocks)
        self.first = FirstProjection(self.blocks[0].attention, self.embedding)
        longest = config.max_history * config.levels + 2
        with torch.no_grad():
            self.register_buffer("position_bias", encoder.position_bias(longest, self.embedding.weight))

    def forward(self, history: Tensor, item_codes: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, T, d] and the mask of real tokens [B, T]."""
        tokens, real = self.encoder.tokens(history, item_codes)
        length = tokens.shape[1]
        padding = padding_bias(real, self.position_bias).to(self.position_bias.dtype)
        mask = self.position_bias[:, :, :length, :length] + padding
        x = self.embedding(tokens)
        for layer, block in enumerate(self.blocks):
            attention = block.attention
            x = block(x, attention.project(attention.norm(x)) if layer else self.first(tokens), mask)
        return self.encoder.norm(x), real


class FusedTigerBeam(nn.Module):
    """`models.networks.beam.TigerBeam`, the same items and scores."""

    norm: Tensor

    def __init__(self, tiger: Tiger, width: int, *, renormalised: bool = False, widths: Sequence[int] = ()) -> None:
        super().__init__()
        self.tiger, self.width, self.renormalised, self.widths = tiger, width, renormalised, tuple(widths)
        self.encoder = FusedEncoder(tiger.encoder)
        blocks = tiger.decoder.blocks
        self.own = stack(FusedAttention(block.attention) for block in blocks)
        self.cross = stack(FusedAttention(block.cross) for block in blocks)
        self.first = FirstProjection(self.own[0], tiger.encoder.embedding)
        self.opening = Opening(tiger, self.own[0], self.cross[0], self.first)
        with torch.no_grad():
            self.register_buffer("norm", tiger.decoder.norm.weight * tiger.config.d_model**-0.5)

    def forward(
        self, history: Tensor, item_codes: Tensor, leaf_item: Tensor, levels: Sequence[Level]
    ) -> tuple[Tensor, Tensor]:
        """Items int64 [B, width] and scores float32 [B, width], best first."""
        steps = _Steps(self, *self.encoder(history, item_codes))
        beams = search(steps, history, levels, self.width, renormalised=self.renormalised, widths=self.widths)
        return items_of(beams, leaf_item), beams.scores


class _Steps:
    """The decoder, one level a call; each beam keeps the keys and values of its own path."""

    def __init__(self, module: FusedTigerBeam, states: Tensor, real: Tensor) -> None:
        self.module = module
        self.bias = module.tiger.decoder.position_bias(module.tiger.config.levels)  # heads, D, D
        self.history = [(cross.key(states), cross.value(states)) for cross in module.cross]
        self.padding = padding_bias(real, states).to(states.dtype)
        self.paths: list[list[tuple[Tensor, Tensor]]] = [[] for _ in module.own]  # of each block

    def __call__(self, beams: Beams, t: int) -> Tensor:
        """Log-probabilities [B, K, V] of the codes of level t."""
        module, tiger = self.module, self.module.tiger
        token = tiger.beam_token(beams.codes, t)
        x = tiger.encoder.embedding(token)  # B, K, d
        padding = self.padding.expand(-1, -1, x.shape[1], -1)
        self._inherit(beams.parents)
        for layer, (own, cross) in enumerate(zip(module.own, module.cross, strict=True)):
            queries, keys, values = own.project(own.norm(x)) if layer else module.first(token)
            self.paths[layer].append((keys, values))
            if layer == 0 and t < 2:
                x, queries = module.opening(token)
            else:
                mixed = own.mix_path(queries, self.paths[layer], self.bias[:, t, : t + 1]) if t else own.output(values)
                x = x + mixed
                queries = cross.query(cross.norm(x))
            x = x + cross.mix(queries, *self.history[layer], padding)
            x = tiger.decoder.blocks[layer].feed_forward(x)
        logits = F.linear(F.rms_norm(x, x.shape[-1:], module.norm, RMS_EPSILON), tiger.encoder.embedding.weight)
        return tiger.level_of(torch.log_softmax(logits.float(), dim=-1), t)

    def _inherit(self, parents: Tensor) -> None:
        """Give each beam its parent's path; the start, at position 0, is the same for all."""
        for path in self.paths:
            path[1:] = [(inherit(keys, parents), inherit(values, parents)) for keys, values in path[1:]]


def inherit(states: Tensor, parents: Tensor) -> Tensor:
    """What each beam takes over from its parent: states [B, K, S] and parents [B, K] -> [B, K, S]."""
    beams, size = states.shape[1:]
    rows = parents + torch.arange(states.shape[0], device=states.device).unsqueeze(1) * beams
    return F.embedding(rows, states.reshape(-1, size))


def linear(weight: Tensor) -> nn.Linear:
    """A layer without bias that holds a copy of `weight` [out, in]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer
