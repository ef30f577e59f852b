"""SASRec: a causal transformer over item ids (Kang & McAuley, arXiv 1808.09781), trained with full cross-entropy.

Blocks are GPT-2 style (pre-LayerNorm, GELU). Item embeddings are tied to the output. The item table has one row an
item and row 0 for padding.

MemGen's SASRec (arXiv 2603.19809) has such blocks too, with dropout of the attention probabilities and none of what a
block adds. Two details of GPT-2 are not reproduced: a tanh approximates GELU, from which the exact GELU here differs by
less than .0005 anywhere, and the weights that end a block's halves begin smaller, by sqrt(2 layers).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.dropout import dropout
from models.networks.stack import stack


@dataclass(frozen=True)
class SASRecConfig:
    """Sizes of a SASRec network."""

    items: int  # N
    d_model: int = 64
    layers: int = 2
    heads: int = 1
    d_ff: int = 256
    dropout: float = 0.2  # of the input embeddings
    max_history: int = 50
    scaled: bool = False  # item embeddings times sqrt(d_model) at the input, as in the paper; the output's are not
    attention_dropout: float = 0.0  # of the attention probabilities
    residual_dropout: float | None = None  # of what each half of a block adds to its input; None: as `dropout`


class Block(nn.Module):
    """Causal self-attention and feed-forward, each after a LayerNorm and added to its input."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.heads, self.attention_dropout = config.heads, config.attention_dropout
        self.dropout = config.dropout if config.residual_dropout is None else config.residual_dropout
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.query_key_value = nn.Linear(config.d_model, 3 * config.d_model)
        self.output = nn.Linear(config.d_model, config.d_model)
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.inner = nn.Linear(config.d_model, config.d_ff)
        self.outer = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        mixed = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = mixed.permute(2, 0, 3, 1, 4)  # each B, heads, L, d_model / heads
        attended = _attend(queries, keys, values, self.attention_dropout if self.training else 0.0)
        x = x + dropout(self.output(attended.transpose(1, 2).flatten(-2)), self.dropout, self.training)
        hidden = self.outer(F.gelu(self.inner(self.feed_forward_norm(x))))
        return x + dropout(hidden, self.dropout, self.training)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, dropped: float) -> Tensor:
    """Causal attention [B, heads, L, d_model / heads], a share `dropped` of its probabilities zeroed.

    PyTorch's own dropout of probabilities takes ten times as long on a CPU as `models.networks.dropout`.
    """
    if dropped == 0:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    length, width = queries.shape[-2:]
    future = torch.ones(length, length, dtype=torch.bool, device=queries.device).triu(1)
    scores = (queries @ keys.transpose(-1, -2) * width**-0.5).masked_fill(future, float("-inf"))
    return dropout(scores.softmax(-1), dropped, training=True) @ values


class SASRec(nn.Module):
    """Next-item logits over the whole catalogue.

    Histories are left-aligned and padded with 0 on the right, so the causal mask alone hides the padding from every
    real position.
    """

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(config.items + 1, config.d_model, padding_idx=0)
        self.positions = nn.Embedding(config.max_history, config.d_model)
        self.scale = config.d_model**0.5 if config.scaled else 1.0
        self.blocks = stack(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.apply(_initialise)

    def hidden(self, history: Tensor) -> Tensor:
        """Hidden states [B, L, d_model] of histories [B, L]."""
        position = torch.arange(history.shape[1], device=history.device)
        x = self.items(history) * self.scale + self.positions(position)
        x = dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., N] of items 1..N."""
        return F.linear(hidden, self.items.weight[1:])

    def last_hidden(self, history: Tensor) -> Tensor:
        """The hidden state [B, d_model] of the last real item of each history [B, L]; an empty one has item 0."""
        last = ((history > 0).sum(1) - 1).clamp(min=0)
        hidden = self.hidden(history)
        return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1])).squeeze(1)

    def forward(self, history: Tensor) -> Tensor:
        """Logits [B, N] for the item after the last real one of each history [B, L]; an empty history sees item 0."""
        return self.logits(self.last_hidden(history))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
