"""The encoder of SID-MLP++: role-specific MLPs in place of the teacher's attention (arXiv 2605.12617, section 3).

A token's *role* is its digit in the semantic id of its item; user and end share the last role. In each layer a token
sees itself and the mean of all real tokens: x_i + F_role(i)([x_i; mean of x]). The paper's code evaluates every role on
every token and masks; here the tokens of a role are one tensor from the start, so each is evaluated by its own role's
MLP only, and what the mean contributes is one product a layer for a whole request.

Shapes: `B` batch, `L` history length, `D` levels, `T` = L * D + 2 tokens, `S` tokens of a role: L, in the last L + 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.dropout import dropout
from models.networks.stack import stack
from models.networks.tiger import Encoder, TigerConfig


@dataclass(frozen=True)
class RoleEncoderConfig:
    """Sizes of the encoder; d_model, vocabulary and roles are the teacher's."""

    layers: int = 4
    hidden: int = 2048
    dropout: float = 0.1


class RoleTokens(NamedTuple):
    """The tokens of one role, the same real or padded ones in every layer."""

    codes: Tensor  # int64 [B, S]: 0..V-1, and in the last role V for user, V + 1 for end
    positions: Tensor  # int64 [1 or B, S]: place in the teacher's sequence
    real: Tensor  # bool [B, S]


def role_tokens(history: Tensor, item_codes: Tensor, teacher: TigerConfig) -> list[RoleTokens]:
    """The tokens of `models.networks.tiger.Encoder.tokens`, role by role; the last one holds user, items, end."""
    codes = item_codes[history]  # B, L, D
    real = history > 0
    starts = 1 + teacher.levels * torch.arange(history.shape[1], device=history.device).unsqueeze(0)
    roles = [RoleTokens(codes[..., role], starts + role, real) for role in range(teacher.levels)]
    last, edge = roles[-1], torch.zeros_like(history[:, :1])
    user, end = edge + teacher.codebook_size, edge + teacher.codebook_size + 1
    end_position = 1 + real.sum(1, keepdim=True) * teacher.levels
    roles[-1] = RoleTokens(
        torch.cat([user, last.codes, end], dim=1),
        torch.cat([edge, last.positions.expand(history.shape[0], -1), end_position], dim=1),
        torch.cat([edge == 0, real, edge == 0], dim=1),
    )
    return roles


class RoleMlp(nn.Module):
    """F of one role. Its first layer is split: `own` takes the token, `RoleLayer.shared` the mean."""

    def __init__(self, d_model: int, config: RoleEncoderConfig) -> None:
        super().__init__()
        self.own = nn.Linear(d_model, config.hidden, bias=False)
        self.norm = nn.LayerNorm(config.hidden)
        self.output = nn.Linear(config.hidden, d_model)
        self.dropout = config.dropout

    def finish(self, first: Tensor) -> Tensor:
        """Everything after the first layer: [B, S, hidden] -> [B, S, d]."""
        return self.output(dropout(F.gelu(self.norm(first)), self.dropout, self.training))  # type: ignore[no-any-return]


class RoleLayer(nn.Module):
    """One MLP a role, and what all of them take from the mean in one product."""

    def __init__(self, teacher: TigerConfig, config: RoleEncoderConfig) -> None:
        super().__init__()
        self.mlps = stack(RoleMlp(teacher.d_model, config) for _ in range(teacher.levels))
        self.shared = nn.Linear(teacher.d_model, config.hidden * teacher.levels)
        bound = (2 * teacher.d_model) ** -0.5  # of one layer over [x_i; mean]
        for part in (*(mlp.own for mlp in self.mlps), self.shared):
            nn.init.uniform_(part.weight, -bound, bound)

    def own(self, x: Sequence[Tensor]) -> list[Tensor]:
        """The tokens' share of the first layers, [B, S, d] -> [B, S, hidden] for each role."""
        return [mlp.own(tokens) for mlp, tokens in zip(self.mlps, x, strict=True)]

    def forward(self, x: Sequence[Tensor], own: Sequence[Tensor], mean: Tensor) -> list[Tensor]:
        """The next states [B, S, d] of each role, given `own` and the mean state [B, 1, d]."""
        shares = self.shared(mean).chunk(len(self.mlps), dim=-1)
        return [
            tokens + mlp.finish(first + share)
            for tokens, mlp, first, share in zip(x, self.mlps, own, shares, strict=True)
        ]


class RoleEncoder(nn.Module):
    """Stands in for a teacher's `Encoder`; its token embedding is the teacher's and stays frozen."""

    def __init__(self, teacher: TigerConfig, config: RoleEncoderConfig) -> None:
        super().__init__()
        self.teacher, self.config = teacher, config
        self.embedding = nn.Embedding(teacher.vocabulary, teacher.d_model).requires_grad_(False)
        self.positions = nn.Embedding(teacher.max_history * teacher.levels + 2, teacher.d_model)
        self.layers = stack(RoleLayer(teacher, config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(teacher.d_model)
        nn.init.normal_(self.positions.weight, std=0.02)

    def start_from(self, teacher: Encoder) -> None:
        """Take over the teacher's embedding, and for a start the scale of its states: that of its last norm."""
        with torch.no_grad():
            self.embedding.weight.copy_(teacher.embedding.weight)
            self.norm.weight.copy_(teacher.norm.weight)

    def first_token(self, role: int) -> int:
        """The token of code 0 of a role."""
        return 1 + role * self.teacher.codebook_size

    def embed(self, roles: Sequence[RoleTokens]) -> list[Tensor]:
        """What enters the first layer, [B, S, d_model] for each role: token and absolute position."""
        return [
            self.embedding(tokens.codes + self.first_token(role)) + self.positions(tokens.positions)
            for role, tokens in enumerate(roles)
        ]

    def forward(self, history: Tensor, item_codes: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, T, d_model] and the mask of real tokens [B, T], both in the teacher's order of tokens."""
        roles = role_tokens(history, item_codes, self.teacher)
        x, weights = self.embed(roles), mean_weights(roles)
        for layer in self.layers:
            x = layer(x, layer.own(x), weights @ torch.cat(x, dim=1))
        return in_order([self.norm(tokens) for tokens in x], history, self.teacher)


class FusedRoleEncoder(nn.Module):
    """`RoleEncoder` for the exported graph: the same function of the same weights, made when its training is over.

    What enters the first layer is the sum of a token's and a position's embedding, so that layer's products with it are
    sums of two rows of tables. States come role by role: what reads them in SID-MLP does not look at their order.
    """

    def __init__(self, encoder: RoleEncoder) -> None:
        super().__init__()
        self.encoder, self.embedding = encoder, encoder.embedding
        rows = encoder.teacher.codebook_size + 2  # in the last role user and end follow the codes
        with torch.no_grad():
            for role, mlp in enumerate(encoder.layers[0].mlps):
                first = encoder.first_token(role)
                self.register_buffer(f"tokens_{role}", mlp.own(self.embedding.weight[first : first + rows]))
                self.register_buffer(f"positions_{role}", mlp.own(encoder.positions.weight))

    def forward(self, history: Tensor, item_codes: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, T, d_model] and the mask of real tokens [B, T], role by role."""
        roles = role_tokens(history, item_codes, self.encoder.teacher)
        x, weights = self.encoder.embed(roles), mean_weights(roles)
        own = [self._first(tokens, role) for role, tokens in enumerate(roles)]
        for number, layer in enumerate(self.encoder.layers):
            x = layer(x, layer.own(x) if number else own, weights @ torch.cat(x, dim=1))
        return self.encoder.norm(torch.cat(x, dim=1)), torch.cat([tokens.real for tokens in roles], dim=1)

    def _first(self, tokens: RoleTokens, role: int) -> Tensor:
        """`RoleLayer.own` of the first layer for one role, [B, S, hidden]."""
        by_code, by_position = self.get_buffer(f"tokens_{role}"), self.get_buffer(f"positions_{role}")
        return F.embedding(tokens.codes, by_code) + F.embedding(tokens.positions, by_position)


def mean_weights(roles: Sequence[RoleTokens]) -> Tensor:
    """Weights [B, 1, T] of the tokens of all roles, side by side: the real ones share 1, the others have 0."""
    real = torch.cat([tokens.real for tokens in roles], dim=1).float().unsqueeze(1)
    return real / real.sum(2, keepdim=True)


def in_order(x: Sequence[Tensor], history: Tensor, teacher: TigerConfig) -> tuple[Tensor, Tensor]:
    """States by role as [B, T, d] in the teacher's order, the end after the last real item, and what is real."""
    last = x[-1]
    user, end = last[:, :1], last[:, -1:]
    body = torch.stack([*x[:-1], last[:, 1:-1]], dim=2).flatten(1, 2)  # B, L * D, d
    states = torch.cat([user, body, end], dim=1)
    position = torch.arange(states.shape[1], device=states.device)
    end_position = 1 + (history > 0).sum(1, keepdim=True) * teacher.levels
    return torch.where((position == end_position).unsqueeze(-1), end, states), position <= end_position
