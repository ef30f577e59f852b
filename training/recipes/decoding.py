"""What a trained network recommends to the instances of a split, without an exported graph."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from models.networks.beam import TigerBeam
from models.networks.sid_mlp import SidMlpBeam
from models.trie import Trie
from training.evaluate import Split
from training.lists import Protocol
from training.pipeline import whole
from training.recommenders import Workshop
from training.validation import beam_lists

Search = TigerBeam | SidMlpBeam


def decode(
    shop: Workshop, search: Search, max_history: int, codes: NDArray[np.int64], split: Split, protocol: Protocol
) -> NDArray[np.int64]:
    """Items [users, K], best first, by the beam search of `search` over semantic ids `codes` [N + 1, D]."""
    device = shop.runtime.device
    search = search.to(device).eval()
    with torch.inference_mode():
        return beam_lists(
            search,
            Trie.build(codes),
            max_history,
            torch.from_numpy(codes).to(device),
            shop.dataset.instances(split).histories,
            masked=protocol == "B",
            console=shop.console,
        )


def stored_lists(path: Path, make: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
    """The items [users, K] in `path`, which are made only if no earlier call has."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = make()
        with whole(path) as partial:
            np.save(partial, found)
    return cast("NDArray[np.int64]", np.load(path))
