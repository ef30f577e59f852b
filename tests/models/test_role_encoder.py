"""SID-MLP++'s encoder against the paper's own way: every role on every token, then a mask."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.role_encoder import FusedRoleEncoder, RoleEncoder, RoleEncoderConfig
from models.networks.tiger import Encoder, TigerConfig

TEACHER = TigerConfig(levels=3, codebook_size=5, d_model=16, d_ff=32, heads=2, d_kv=8, encoder_layers=1, max_history=6)
CODES = torch.randint(0, 5, (31, 3), generator=torch.Generator().manual_seed(0))
HISTORIES = torch.tensor([[3, 9, 27, 1], [5, 0, 0, 0], [0, 0, 0, 0], [30, 2, 2, 0]])


@pytest.fixture(scope="module", params=[1, 3])
def encoder(request: pytest.FixtureRequest) -> RoleEncoder:
    torch.manual_seed(0)
    network = RoleEncoder(TEACHER, RoleEncoderConfig(layers=request.param, hidden=24)).eval()
    for parameter in network.parameters():  # some weights start at 0 or 1, where they could not be forgotten
        nn.init.normal_(parameter, std=0.4)
    return network


def every_role_on_every_token(encoder: RoleEncoder, history: Tensor) -> tuple[Tensor, Tensor]:
    """METHODS of arXiv 2605.12617: x_i + sum over roles of F_role([x_i; mean]) * (role of i == role)."""
    tokens, real = Encoder(TEACHER).tokens(history, CODES)
    roles = []
    for row in range(len(tokens)):
        end = int(real[row].sum()) - 1
        roles.append([2 if i in (0, end) else (i - 1) % 3 for i in range(tokens.shape[1])])
    role = torch.tensor(roles).unsqueeze(-1)
    x = encoder.embedding(tokens) + encoder.positions.weight[: tokens.shape[1]]
    for layer in encoder.layers:
        mean = torch.stack([states[mask].mean(0) for states, mask in zip(x, real, strict=True)])
        both = torch.cat([x, mean.unsqueeze(1).expand_as(x)], dim=-1)
        update = torch.zeros_like(x)
        for r, (mlp, weight, bias) in enumerate(
            zip(layer.mlps, layer.shared.weight.chunk(3), layer.shared.bias.chunk(3), strict=True)
        ):
            first = F.linear(both, torch.cat([mlp.own.weight, weight], dim=1), bias)
            update += mlp.output(F.gelu(mlp.norm(first))) * (role == r)
        x = x + update
    return encoder.norm(x), real


@torch.no_grad()
def test_each_token_is_seen_by_its_own_role_only(encoder: RoleEncoder) -> None:
    states, real = encoder(HISTORIES, CODES)
    expected, expected_real = every_role_on_every_token(encoder, HISTORIES)
    assert torch.equal(real, expected_real)
    torch.testing.assert_close(states[real], expected[real], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_exported_form_gives_the_same_states_role_by_role(encoder: RoleEncoder) -> None:
    found, found_real = FusedRoleEncoder(encoder)(HISTORIES, CODES)
    states, real = encoder(HISTORIES, CODES)
    for row, history in enumerate(HISTORIES):
        items = int((history > 0).sum())
        digits = [[1 + 3 * item + role for item in range(items)] for role in range(3)]
        order = [*digits[0], *digits[1], 0, *digits[2], 1 + 3 * items]
        assert int(real[row].sum()) == len(order)
        torch.testing.assert_close(found[row, found_real[row]], states[row, order], rtol=0, atol=1e-5)


@torch.no_grad()
def test_padding_changes_nothing(encoder: RoleEncoder) -> None:
    states, real = encoder(HISTORIES, CODES)
    for row, history in enumerate(HISTORIES):
        alone, _ = encoder(history[None, : max(1, int((history > 0).sum()))], CODES)
        torch.testing.assert_close(states[row, real[row]], alone[0, : int(real[row].sum())], rtol=0, atol=1e-5)


def test_the_papers_size() -> None:
    """12.72 M trained parameters: 4 layers of 4 roles of 792,704, positions, and a norm; no embedding among them."""
    paper = RoleEncoder(TigerConfig(), RoleEncoderConfig())
    trained = sum(p.numel() for p in paper.parameters() if p.requires_grad)
    positions = paper.positions.weight.numel()
    assert trained - positions == 4 * 4 * 792_704 + 256
    assert not paper.embedding.weight.requires_grad
