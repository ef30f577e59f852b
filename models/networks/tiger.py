"""TIGER: a T5-style encoder-decoder over semantic-id tokens (Rajput et al., arXiv 2305.05065, section 3.2).

The network is T5 v1 (Raffel et al., arXiv 1910.10683): pre-RMSNorm, ReLU feed-forward, unscaled attention with a
learned relative position bias shared by the layers of a stack, and an output head tied to the embedding and scaled
by d_model ** -0.5. With the same weights it equals Hugging Face `T5ForConditionalGeneration`. One thing differs in
training only: attention probabilities are not dropped out, which costs a CPU more than it gave.

Shapes: `B` batch, `L` history length, `D` levels, `T` = L * D + 2 encoder tokens, `V` codes a level.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.dropout import dropout
from models.networks.stack import stack

PADDING = 0
RMS_EPSILON = 1e-6


@dataclass(frozen=True)
class TigerConfig:
    """Sizes of a TIGER network."""

    levels: int = 4  # D: digits of a semantic id, the collision digit included
    codebook_size: int = 256  # V
    d_model: int = 128
    d_ff: int = 1024
    heads: int = 6
    d_kv: int = 64
    encoder_layers: int = 4
    decoder_layers: int = 4
    dropout: float = 0.1
    max_history: int = 20  # items
    buckets: int = 32  # relative position buckets
    max_distance: int = 128
    tasks: int = 0  # auxiliary tasks of training, each with a token of its own

    @property
    def user_token(self) -> int:
        """The one token that stands for every user (METHODS of MemGen: users hash to one bucket)."""
        return 1 + self.levels * self.codebook_size

    @property
    def end_token(self) -> int:
        """The token that closes a history."""
        return self.user_token + 1

    @property
    def vocabulary(self) -> int:
        """Number of tokens: padding, V codes for each of D levels, user, end, and one for each auxiliary task."""
        return self.end_token + 1 + self.tasks

    def task_token(self, task: int) -> int:
        """The token that stands in place of the user's for an auxiliary task, from 0; serving never uses it."""
        return self.end_token + 1 + task


def relative_bucket(relative: Tensor, *, bidirectional: bool, buckets: int, max_distance: int) -> Tensor:
    """T5's bucket of a relative position (key minus query), exact when near and logarithmic when far."""
    offset = torch.zeros_like(relative)
    if bidirectional:
        buckets //= 2
        offset = (relative > 0).long() * buckets
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = buckets // 2
    scaled = torch.log(distance.float().clamp(min=1) / exact) / math.log(max_distance / exact) * (buckets - exact)
    far = (exact + scaled.long()).clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


class RMSNorm(nn.Module):
    """Root mean square normalisation without mean or bias."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), RMS_EPSILON)


class FeedForward(nn.Module):
    """x + W_o relu(W_i norm(x))."""

    def __init__(self, config: TigerConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model)
        self.inner = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.outer = nn.Linear(config.d_ff, config.d_model, bias=False)
        self.dropout = config.dropout
        nn.init.normal_(self.inner.weight, std=config.d_model**-0.5)
        nn.init.normal_(self.outer.weight, std=config.d_ff**-0.5)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        hidden = dropout(F.relu(self.inner(self.norm(x))), self.dropout, self.training)
        return x + dropout(self.outer(hidden), self.dropout, self.training)


class Attention(nn.Module):
    """Multi-head attention without scaling and without biases in the projections."""

    def __init__(self, config: TigerConfig) -> None:
        super().__init__()
        inner = config.heads * config.d_kv
        self.heads, self.d_kv, self.dropout = config.heads, config.d_kv, config.dropout
        self.norm = RMSNorm(config.d_model)
        self.query = nn.Linear(config.d_model, inner, bias=False)
        self.key_value = nn.Linear(config.d_model, 2 * inner, bias=False)
        self.output = nn.Linear(inner, config.d_model, bias=False)
        nn.init.normal_(self.query.weight, std=(config.d_model * config.d_kv) ** -0.5)
        nn.init.normal_(self.key_value.weight, std=config.d_model**-0.5)
        nn.init.normal_(self.output.weight, std=inner**-0.5)

    def split(self, x: Tensor) -> Tensor:
        """[B, S, heads * d_kv] -> [B, heads, S, d_kv]."""
        return x.view(*x.shape[:2], self.heads, self.d_kv).transpose(1, 2)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of `x`, each [B, heads, S, d_kv]."""
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return self.split(keys), self.split(values)

    def attend(self, normed: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Attention output [B, S, d_model] of queries [B, S, d_model] under `bias` [B, heads, S, keys]."""
        queries = self.split(self.query(normed))
        mix = _plain_attention if self.training and not queries.is_cuda else _fused_attention
        mixed = mix(queries, keys, values, bias)
        return dropout(self.output(mixed.transpose(1, 2).flatten(-2)), self.dropout, self.training)


def _fused_attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """softmax(QK + bias) V [B, heads, S, d_kv], as one operator."""
    # ONNX Runtime's Attention takes no broadcast mask, so the bias is expanded (a view here, a copy there).
    mask = bias.to(queries.dtype).expand(*queries.shape[:3], keys.shape[2])
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0)


def _plain_attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """The same in its steps, which a CPU trains faster: the operator's backward pass is slow for few queries, and its
    unfused form converts bf16 products to float32 and back."""
    scores = queries @ keys.transpose(-1, -2) + bias  # the bias is float32, and so are the sum and its softmax
    return scores.softmax(-1).to(values.dtype) @ values


class EncoderBlock(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, config: TigerConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:  # noqa: D102
        normed = self.attention.norm(x)
        x = x + self.attention.attend(normed, *self.attention.keys_values(normed), bias)
        return self.feed_forward(x)  # type: ignore[no-any-return]


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention and feed-forward."""

    def __init__(self, config: TigerConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.cross = Attention(config)
        self.feed_forward = FeedForward(config)

    def after_self(self, x: Tensor, cross_keys: Tensor, cross_values: Tensor, cross_bias: Tensor) -> Tensor:
        """What follows the self-attention; the one-graph decoder calls it with beams as query positions."""
        x = x + self.cross.attend(self.cross.norm(x), cross_keys, cross_values, cross_bias)
        return self.feed_forward(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, bias: Tensor, states: Tensor, cross_bias: Tensor) -> Tensor:  # noqa: D102
        normed = self.attention.norm(x)
        x = x + self.attention.attend(normed, *self.attention.keys_values(normed), bias)
        return self.after_self(x, *self.cross.keys_values(states), cross_bias)


class Encoder(nn.Module):
    """The encoder stack with its token embedding: semantic ids of a history in, one state a token out."""

    def __init__(self, config: TigerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model)
        self.bias = nn.Embedding(config.buckets, config.heads)
        self.blocks = stack(EncoderBlock(config) for _ in range(config.encoder_layers))
        self.norm = RMSNorm(config.d_model)
        nn.init.normal_(self.bias.weight, std=config.d_model**-0.5)

    def tokens(self, history: Tensor, item_codes: Tensor, opening: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] of a left-aligned, 0-padded history [B, L], and which of them are real (bool).

        Layout: user (or `opening` [B], the token of another task), D codes for each item, end, padding.
        `item_codes` is [N + 1, D] with codes 0..V-1.
        """
        config = self.config
        first = 1 + torch.arange(config.levels, device=history.device) * config.codebook_size
        body = (item_codes[history] + first).flatten(1)  # B, L * D
        edge = torch.zeros_like(history[:, :1])
        start = edge + config.user_token if opening is None else opening[:, None]
        tokens = torch.cat([start, body, edge], dim=1)
        position = torch.arange(tokens.shape[1], device=history.device)
        end = 1 + (history > 0).sum(1, keepdim=True) * config.levels
        tokens = torch.where(position == end, config.end_token, tokens)
        real = position <= end
        return torch.where(real, tokens, PADDING), real

    def forward(self, history: Tensor, item_codes: Tensor, opening: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States [B, T, d_model] and the mask of real tokens [B, T]."""
        tokens, real = self.tokens(history, item_codes, opening)
        x = dropout(self.embedding(tokens), self.config.dropout, self.training)
        bias = self.position_bias(tokens.shape[1], x) + padding_bias(real, x)
        for block in self.blocks:
            x = block(x, bias)
        return dropout(self.norm(x), self.config.dropout, self.training), real

    def position_bias(self, length: int, like: Tensor) -> Tensor:
        """Relative position bias [1, heads, length, length]."""
        position = torch.arange(length, device=like.device)
        bucket = relative_bucket(
            position[None, :] - position[:, None],
            bidirectional=True,
            buckets=self.config.buckets,
            max_distance=self.config.max_distance,
        )
        return self.bias(bucket).permute(2, 0, 1)[None]  # type: ignore[no-any-return]


def padding_bias(real: Tensor, like: Tensor) -> Tensor:
    """Additive attention bias [B, 1, 1, T]: 0 for real tokens, a very negative number for padding."""
    return torch.where(real, 0.0, torch.finfo(torch.float32).min)[:, None, None, :].to(like.device)


class Decoder(nn.Module):
    """The decoder stack; its embedding is the encoder's, passed in by `Tiger`."""

    def __init__(self, config: TigerConfig) -> None:
        super().__init__()
        self.config = config
        self.bias = nn.Embedding(config.buckets, config.heads)
        self.blocks = stack(DecoderBlock(config) for _ in range(config.decoder_layers))
        self.norm = RMSNorm(config.d_model)
        nn.init.normal_(self.bias.weight, std=config.d_model**-0.5)

    def position_bias(self, length: int) -> Tensor:
        """Causal relative position bias [heads, length, length], without the causal mask."""
        position = torch.arange(length, device=self.bias.weight.device)
        bucket = relative_bucket(
            position[None, :] - position[:, None],
            bidirectional=False,
            buckets=self.config.buckets,
            max_distance=self.config.max_distance,
        )
        return self.bias(bucket).permute(2, 0, 1)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, states: Tensor, real: Tensor) -> Tensor:
        """Normed hidden states [B, S, d_model] of the embedded prefix `x` [B, S, d_model], teacher-forced."""
        length = x.shape[1]
        causal = torch.full((length, length), torch.finfo(torch.float32).min, device=x.device).triu(1)
        bias = (self.position_bias(length) + causal)[None]
        cross_bias = padding_bias(real, x)
        x = dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x, bias, states, cross_bias)
        return dropout(self.norm(x), self.config.dropout, self.training)


class Tiger(nn.Module):
    """The whole network."""

    def __init__(self, config: TigerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def code_tokens(self, codes: Tensor) -> Tensor:
        """Tokens of codes [..., t] that stand at levels 0..t-1."""
        level = torch.arange(codes.shape[-1], device=codes.device)
        return codes + 1 + level * self.config.codebook_size

    def beam_token(self, codes: Tensor, level: int) -> Tensor:
        """Input tokens that predict `level`: those of codes [...] of the level before, or the start."""
        return codes + (1 + (level - 1) * self.config.codebook_size) if level else torch.zeros_like(codes)

    def level_of(self, logits: Tensor, level: int) -> Tensor:
        """The part [..., V] of `logits` [..., vocabulary] that stands for the codes of `level`."""
        first = 1 + level * self.config.codebook_size
        return logits[..., first : first + self.config.codebook_size]

    def output(self, hidden: Tensor) -> Tensor:
        """Logits over the whole vocabulary."""
        return F.linear(hidden * self.config.d_model**-0.5, self.encoder.embedding.weight)

    def decode(self, prefix: Tensor, states: Tensor, real: Tensor) -> Tensor:
        """Logits [B, S + 1, vocabulary] for the levels after the start and after each code of `prefix` [B, S]."""
        start = prefix.new_full((len(prefix), 1), PADDING)
        tokens = torch.cat([start, self.code_tokens(prefix)], dim=1)
        return self.output(self.decoder(self.encoder.embedding(tokens), states, real))

    def forward(self, history: Tensor, target: Tensor, item_codes: Tensor, opening: Tensor | None = None) -> Tensor:
        """Logits [B, D, vocabulary] of the target items [B] given histories [B, L], teacher-forced."""
        states, real = self.encoder(history, item_codes, opening)
        return self.decode(item_codes[target][:, :-1], states, real)
