"""SID-MLP: TIGER's decoder distilled into MLP heads (Guo et al., arXiv 2605.12617, section 3).

The teacher's frozen encoder reads the history; one query attends over its states once ("context capture"); head t
then sees that context and the frozen embeddings of the codes before it. Nothing in the loop over levels attends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.beam import BLOCKED, Beams, Level, children_of, items_of, look_up, search
from models.networks.dropout import dropout
from models.networks.fused import FusedEncoder, linear
from models.networks.role_encoder import FusedRoleEncoder, RoleEncoder, RoleEncoderConfig
from models.networks.stack import stack
from models.networks.tiger import Encoder, TigerConfig

Reader = Encoder | FusedEncoder | RoleEncoder | FusedRoleEncoder  # of a history: the teacher's, or SID-MLP++'s own


@dataclass(frozen=True)
class SidMlpConfig:
    """Sizes of the student's context capture and heads."""

    heads: int = 4
    head_size: int = 96
    d_ff: int = 1024
    hidden: int = 512
    dropout: float = 0.2


class ContextCapture(nn.Module):
    """One query, the mean of the encoder states, attends over them: [B, T, d] -> [B, d]."""

    def __init__(self, d_model: int, config: SidMlpConfig) -> None:
        super().__init__()
        inner = config.heads * config.head_size
        self.heads, self.dropout = config.heads, config.dropout
        self.start = nn.Linear(d_model, d_model)
        self.query = nn.Linear(d_model, inner, bias=False)
        self.key_value = nn.Linear(d_model, 2 * inner, bias=False)
        self.output = nn.Linear(inner, d_model, bias=False)
        self.attention_norm = nn.LayerNorm(d_model)
        self.inner = nn.Linear(d_model, config.d_ff)
        self.outer = nn.Linear(config.d_ff, d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:  # noqa: D102
        weights = real.to(states.dtype).unsqueeze(-1)
        mean = (states * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        start = self.start(mean)  # B, 1, d
        # One query: to carry it through the key weights, and the mix of states through the value weights, is the same
        # as to project every state, and T times cheaper.
        queries = self.query(start).unflatten(-1, (self.heads, -1)).squeeze(1).transpose(0, 1)  # heads, B, size
        keys, values = self.key_value.weight.view(2, self.heads, -1, self.key_value.in_features)  # heads, size, d
        logits = (queries @ keys).transpose(0, 1) @ states.transpose(1, 2) * keys.shape[1] ** -0.5  # B, heads, T
        shares = torch.softmax(logits.masked_fill(~real.unsqueeze(1), float("-inf")), dim=-1)
        mixed = (dropout(shares, self.dropout, self.training) @ states).transpose(0, 1)  # heads, B, d
        attended = (mixed @ values.transpose(1, 2)).transpose(0, 1).flatten(1).unsqueeze(1)  # B, 1, inner
        return self.finish(start + self.output(attended))

    def finish(self, x: Tensor) -> Tensor:
        """What follows the attention, [B, 1, d] -> [B, d]."""
        x = self.attention_norm(x)
        hidden = dropout(F.relu(self.inner(x)), self.dropout, self.training)
        return self.norm(x + self.outer(hidden)).squeeze(1)  # type: ignore[no-any-return]


class FusedContext(nn.Module):
    """`ContextCapture` for the exported graph: the same function of the same weights, made when its training is over.

    A query passes through two matrices on its way to the states, and so does each head's mix of states on its way out;
    their products are one matrix each.
    """

    def __init__(self, context: ContextCapture) -> None:
        super().__init__()
        self.context, self.heads = context, context.heads
        d_model = context.start.out_features
        with torch.no_grad():
            query = context.query.weight.view(self.heads, -1, d_model)
            keys, values = context.key_value.weight.view(2, *query.shape)
            output = context.output.weight.view(d_model, self.heads, -1)
            carried = torch.einsum("hsi,hsj->hji", query, keys) * query.shape[1] ** -0.5
            self.query = linear(carried.flatten(0, 1))
            self.output = linear(torch.einsum("ohs,hsj->ohj", output, values).flatten(1))

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """The context [B, d] of states [B, T, d] and the mask of real tokens [B, T]."""
        weights = real.to(states.dtype).unsqueeze(1)
        start = self.context.start(weights @ states / weights.sum(2, keepdim=True))  # B, 1, d
        logits = self.query(start).reshape(-1, self.heads, states.shape[2]) @ states.transpose(1, 2)  # B, heads, T
        shares = torch.softmax(torch.where(real.unsqueeze(1), logits, BLOCKED), dim=-1)
        mixed = (shares @ states).reshape(-1, 1, self.output.in_features)
        return self.context.finish(start + self.output(mixed))


class Head(nn.Module):
    """Logits of one level from the context and the codes before it.

    The first layer is linear in the concatenation [context; e(c_1); ...; e(c_t)], so it is kept as one matrix for
    the context and one for each code position; their products with the frozen embeddings are tables (METHODS 2.6).
    """

    def __init__(self, level: int, d_model: int, codes: int, config: SidMlpConfig) -> None:
        super().__init__()
        self.first = nn.Linear(d_model * (level + 1), config.hidden)
        self.norm = nn.LayerNorm(config.hidden)
        self.output = nn.Linear(config.hidden, codes)
        self.level, self.d_model, self.dropout = level, d_model, config.dropout

    @property
    def context_weight(self) -> Tensor:
        """The part [hidden, d] of the first layer that takes the context."""
        return self.first.weight[:, : self.d_model]

    def of_context(self, context: Tensor) -> Tensor:
        """The context's share of the first layer, bias included: [..., d] -> [..., hidden]."""
        return F.linear(context, self.context_weight, self.first.bias)

    def of_codes(self, embeddings: Tensor, position: int) -> Tensor:
        """The share of a code at `position`: embeddings [..., d] -> [..., hidden]."""
        begin = self.d_model * (position + 1)
        return F.linear(embeddings, self.first.weight[:, begin : begin + self.d_model])

    def finish(self, first: Tensor) -> Tensor:
        """Everything after the first layer: [..., hidden] -> logits [..., V]."""
        hidden = dropout(F.gelu(self.norm(first)), self.dropout, self.training)
        return self.output(hidden)  # type: ignore[no-any-return]


class SidMlp(nn.Module):
    """Student of a TIGER: frozen `embedding` (the teacher's token table), context capture and one head a level."""

    def __init__(self, teacher: TigerConfig, config: SidMlpConfig) -> None:
        super().__init__()
        self.teacher, self.config = teacher, config
        self.context = ContextCapture(teacher.d_model, config)
        self.heads = stack(
            Head(level, teacher.d_model, teacher.codebook_size, config) for level in range(teacher.levels)
        )

    def code_embeddings(self, embedding: Tensor, level: int) -> Tensor:
        """The teacher's embeddings [V, d] of the codes of `level`."""
        first = 1 + level * self.teacher.codebook_size
        return embedding[first : first + self.teacher.codebook_size]

    def forward(self, states: Tensor, real: Tensor, prefix: Tensor, embedding: Tensor) -> Tensor:
        """Teacher-forced logits [B, D, V] for prefixes [B, D - 1]."""
        context = self.context(states, real)
        logits = []
        for level, head in enumerate(self.heads):
            first = head.of_context(context)
            for position in range(level):
                codes = self.code_embeddings(embedding, position)[prefix[:, position]]
                first = first + head.of_codes(codes, position)
            logits.append(head.finish(first))
        return torch.stack(logits, dim=1)


@dataclass(frozen=True)
class SidMlpPlusPlusConfig:
    """Sizes of both halves."""

    encoder: RoleEncoderConfig
    student: SidMlpConfig


class SidMlpPlusPlus(nn.Module):
    """SID-MLP++: a role-wise encoder in place of the teacher's, and a SID-MLP that learned from its states."""

    def __init__(self, teacher: TigerConfig, config: SidMlpPlusPlusConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.student = RoleEncoder(teacher, config.encoder), SidMlp(teacher, config.student)


class SidMlpBeam(nn.Module):
    """SID-MLP's beam search as one graph, with the code shares of the first layers precomputed as tables.

    With `skip_forced` the heads leave out beams whose node has one child, most of them at the last levels: its
    probability is 1, renormalised. The answer is the same. How many rows a head has then depends on the data, which
    suits a CPU; a GPU would have to wait for the number, and could not record its work.
    """

    def __init__(
        self, encoder: Reader, student: SidMlp, width: int, *, renormalised: bool = True, skip_forced: bool = False
    ) -> None:
        super().__init__()
        if skip_forced and not renormalised:
            raise ValueError("skip_forced needs renormalised scores: else an only child has no probability of 1")
        self.encoder, self.student, self.context = encoder, student, FusedContext(student.context)
        self.width, self.renormalised, self.skip_forced = width, renormalised, skip_forced
        self.of_context = nn.Linear(student.teacher.d_model, student.config.hidden * len(student.heads))
        with torch.no_grad():
            self.of_context.weight.copy_(torch.cat([head.context_weight for head in student.heads]))
            self.of_context.bias.copy_(torch.cat([head.first.bias for head in student.heads]))
            for level, head in enumerate(student.heads):
                for position in range(level):
                    codes = student.code_embeddings(encoder.embedding.weight, position)
                    self.register_buffer(f"table_{level}_{position}", head.of_codes(codes, position))

    def forward(
        self, history: Tensor, item_codes: Tensor, leaf_item: Tensor, levels: Sequence[Level]
    ) -> tuple[Tensor, Tensor]:
        """Items int64 [B, width] and scores float32 [B, width], best first."""
        context = self.context(*self.encoder(history, item_codes))
        shares = self.of_context(context).unsqueeze(1).chunk(len(self.student.heads), dim=-1)  # B, 1, hidden each
        trail: list[Tensor] = []  # the codes of each beam so far, one [B, K] a level

        def step(beams: Beams, t: int) -> Tensor:
            if t:
                trail[:] = [codes.gather(1, beams.parents) for codes in trail] + [beams.codes]
            if self.skip_forced and t > 1:  # after a single code, nearly every node has many children
                free = children_of(beams, levels[t])[1] > 1
                return self._logits_of(free, t, shares[t], trail)
            logits = self._logits(t, shares[t], trail)
            return logits if self.renormalised else torch.log_softmax(logits, dim=-1)

        beams = search(step, history, levels, self.width, renormalised=self.renormalised)
        return items_of(beams, leaf_item), beams.scores

    def _logits(self, t: int, share: Tensor, trail: Sequence[Tensor]) -> Tensor:
        """Logits [..., V] of head t from the context's share [..., hidden] and the codes [...] so far."""
        first = share
        for position, codes in enumerate(trail):
            first = first + F.embedding(codes, self.get_buffer(f"table_{t}_{position}"))
        return self.student.heads[t].finish(first).float()

    def _logits_of(self, free: Tensor, t: int, share: Tensor, trail: Sequence[Tensor]) -> Tensor:
        """As `_logits` for the beams that are `free` [B, K]; any others get the first beam's, which are as good."""
        chosen = free.flatten()
        rows = torch.cat([torch.zeros_like(trail[0][0, :1]), chosen.nonzero().squeeze(1)])
        codes = [look_up(codes.flatten(), rows) for codes in trail]
        logits = self._logits(t, F.embedding(rows // free.shape[1], share.squeeze(1)), codes)
        return F.embedding((chosen.cumsum(0) * chosen).view_as(free), logits)
