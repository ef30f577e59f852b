"""SASRec's answer as one graph: last position, all items, mask, top-k and the request's softmax statistics.

Scoring all items exactly reads the whole item table, which takes longer than all else once it has outgrown the caches.
`SASRecScan` reads a table of a quarter of that size to find candidates, and scores only those exactly.

Shapes: `B` requests, `N` items, `K` places of an answer, `C` candidates.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.beam import BLOCKED
from models.networks.sasrec import SASRec

SCAN_FROM = 50_000
"""Items from which on a bundle scans. Measured by `benchmarks.catalogue`: below it, being exact costs little."""

CANDIDATES = 2  # of the scan, for each place of the answer


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
        return (*best(logits, allowed, self.width), *statistics(logits))


class SASRecScan(nn.Module):
    """As `SASRecTopK`, for catalogues whose scores take longer than all else.

    `export_sasrec` rounds `table`, the copy of the item table that is scanned, to 8 bits an element with a scale for
    each item. The best of the scan are scored again with the item table itself: a listed item has its exact logit, and
    an item can be missing only where rounding puts it behind `CANDIDATES * width` others. The last two outputs are
    those of the scan. In PyTorch nothing is rounded, and the answer is that of `SASRecTopK`.
    """

    table: Tensor

    def __init__(self, network: SASRec, width: int) -> None:
        super().__init__()
        self.network, self.width = network, width
        self.register_buffer("table", network.items.weight.detach()[1:].t().contiguous())  # d, N

    def forward(self, history: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As that of `SASRecTopK`."""
        hidden = self.network.last_hidden(history)  # B, d
        logits = hidden @ self.table  # B, N
        candidates, found = best(logits, allowed, CANDIDATES * self.width)
        exact = (self.network.items(candidates) @ hidden.unsqueeze(-1)).squeeze(-1)  # B, C
        scores, places = torch.where(found == BLOCKED, BLOCKED, exact).topk(self.width, dim=1)
        return candidates.gather(1, places), scores, *statistics(logits)


def top_k(network: SASRec, width: int) -> SASRecTopK | SASRecScan:
    """What answers with `width` items of this network's catalogue: exact below `SCAN_FROM` items, else a scan."""
    return (SASRecTopK if network.config.items < SCAN_FROM else SASRecScan)(network, width)


def best(logits: Tensor, allowed: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The items [B, width] with the highest of `logits` [B, N] among `allowed` [B, N + 1], and these logits."""
    width_found = min(width, logits.shape[1])
    scores, positions = torch.where(allowed[:, 1:], logits, BLOCKED).topk(width_found, dim=1)
    items = torch.where(scores == BLOCKED, 0, positions + 1)
    missing = (0, width - width_found)
    return F.pad(items, missing), F.pad(scores, missing, value=BLOCKED)


def statistics(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum softmax probability [B] and log-partition [B] of logits [B, N]."""
    # ONNX Runtime's LogSoftmax is vectorised, its ReduceLogSumExp is not.
    log_probability = torch.log_softmax(logits, dim=-1).amax(dim=-1)
    return torch.exp(log_probability), logits.amax(dim=-1) - log_probability
