"""Validation during training: NDCG@10 on the validation items, history not masked (protocol A)."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from models.histories import allow_all_but
from models.networks.beam import TigerBeam
from models.networks.sasrec import SASRec
from models.networks.sid_mlp import SidMlpBeam
from models.trie import Trie
from training.batches import Sequences, history_batches, pad
from training.data.dataset import Instances
from training.export import level_tensors
from training.metrics import Ranks, ndcg, ranks

BATCH = 64
USERS = 4000
"""Beam validation looks at a fixed random sample: its N@10 orders epochs well enough and costs seconds."""


def sample(instances: Instances, seed: int) -> Instances:
    """At most `USERS` of the instances, the same ones for a seed."""
    if len(instances.targets) <= USERS:
        return instances
    chosen = np.sort(np.random.default_rng(seed).choice(len(instances.targets), USERS, replace=False))
    return Instances(instances.users[chosen], [instances.histories[i] for i in chosen], instances.targets[chosen])


def sasrec_validator(network: SASRec, instances: Instances, device: str) -> Callable[[], float]:
    """NDCG@10 of the network as it is when called."""

    def validate() -> float:
        found = np.zeros(len(instances.targets))
        for rows in history_batches(instances.histories, 256):
            history = pad([instances.histories[i] for i in rows], network.config.max_history).to(device)
            top = network(history).topk(min(10, network.config.items), dim=1).indices.cpu().numpy() + 1
            found[rows] = ndcg(ranks(top, instances.targets[rows]), 10)
        return float(found.mean())

    return validate


def beam_validator(
    search: TigerBeam | SidMlpBeam, max_history: int, item_codes: torch.Tensor, instances: Instances
) -> Callable[[], float]:
    """NDCG@10 of the beam search over the network as it is when called, on the device of `item_codes`."""
    trie = Trie.build(item_codes.cpu().numpy())
    return lambda: float(ndcg(beam_ranks(search, trie, max_history, item_codes, instances), 10).mean())


def beam_ranks(
    search: TigerBeam | SidMlpBeam, trie: Trie, max_history: int, item_codes: torch.Tensor, instances: Instances
) -> Ranks:
    """Ranks [n] of the targets in the beams, 0 where absent."""
    return ranks(beam_lists(search, trie, max_history, item_codes, instances.histories), instances.targets)


def beam_lists(
    search: TigerBeam | SidMlpBeam,
    trie: Trie,
    max_history: int,
    item_codes: torch.Tensor,
    histories: Sequences,
    *,
    masked: bool = False,
    console: Console | None = None,
) -> NDArray[np.int64]:
    """Items [n, K] of the beams, best first; with `masked`, none of the history's own (protocol B).

    With a `console`, progress is shown there.
    """
    device = item_codes.device
    leaf_item = torch.from_numpy(trie.leaf_item).to(device)
    found = np.zeros((len(histories), search.width), dtype=np.int64)
    batches = list(history_batches(histories, BATCH))
    for rows in track(batches, "lists", console=console, disable=console is None):
        chosen = [histories[i] for i in rows]
        allowed = allow_all_but(chosen if masked else [()] * len(rows), trie.items)
        levels = [type(level)(*(table.to(device) for table in level)) for level in level_tensors(trie, allowed)]
        items, _ = search(pad(chosen, max_history).to(device), item_codes, leaf_item, levels)
        found[rows] = items.cpu().numpy()
    return found
