"""SASRec's answer as one graph: last position, all items, mask, top-k and the request's softmax statistics."""

import torch
from torch import Tensor, nn

from models.networks.beam import BLOCKED
from models.networks.sasrec import SASRec


class SASRecTopK(nn.Module):
    """The best `width` allowed items of each history."""

    def __init__(self, network: SASRec, width: int) -> None:
        super().__init__()
        self.network, self.width = network, width

    def forward(self, history: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Items int64 [B, width], logits [B, width], maximum softmax probability [B] and log-partition [B].

        `allowed` is bool [B, N + 1]; fewer than `width` allowed items leave slots with item 0 and score -inf. The
        last two outputs are over the whole catalogue, so that a mask never changes the indicator.
        """
        logits = self.network(history)  # B, N
        log_partition = torch.logsumexp(logits, dim=-1)
        msp = torch.exp(logits.amax(dim=-1) - log_partition)
        candidates = torch.where(allowed[:, 1:], logits, BLOCKED)
        empty = torch.full_like(candidates[:, :1], BLOCKED).expand(-1, self.width)
        scores, positions = torch.cat([candidates, empty], dim=1).topk(self.width, dim=1)
        return torch.where(scores == BLOCKED, 0, positions + 1), scores, msp, log_partition
