"""IIRG: TIGER also learns to generate the neighbours of an item (Kim et al., arXiv 2606.17276).

The paper prompts a language model with an item and has it write the list of its neighbours. Here the same network reads
the item behind a token of the task, where the token of the user stands in a history, and generates one neighbour, drawn
evenly from the list. The loss of a step is

    main + lambda_1 * collaborative + lambda_2 * semantic,

each a mean over codes. A step draws a quarter as many items for each task as it has main examples; an item with its
special tokens is a fraction of a history, so that a step costs about a fifth more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.errors import TrainingError
from models.networks.tiger import Tiger
from training.neighbours import Sequences, collaborative_neighbours, semantic_neighbours

TASKS = 2  # collaborative, semantic
SHARE = 4  # main examples for each auxiliary one of a task

Pairs = NDArray[np.int64]
"""Items and the neighbours to generate from them: [2, TASKS, A]."""


@dataclass(frozen=True)
class IirgOptions:
    """The defaults are those of the authors' code."""

    lambda_1: float = 1.0  # weight of the collaborative task
    lambda_2: float = 1.0  # weight of the semantic task
    window: int = 5  # W, events between collaborative neighbours
    collaborative: int = 5  # N1, neighbours an item
    semantic: int = 5  # N2


PUBLISHED = IirgOptions()


@dataclass(frozen=True)
class Iirg:
    """The auxiliary tasks over one data set."""

    options: IirgOptions
    tables: Sequence[NDArray[np.int64]]
    """For each task the neighbours [N + 1, K] of every item, empty slots (0) last."""

    @classmethod
    def of(cls, options: IirgOptions, sequences: Sequences, vectors: NDArray[np.float32]) -> "Iirg":
        """The tasks over training sequences of the items with embeddings `vectors` [N, d].

        Raises:
            TrainingError: no two items of the sequences are neighbours.
        """
        tables = (
            collaborative_neighbours(sequences, len(vectors), options.window, options.collaborative),
            semantic_neighbours(sequences, vectors, options.semantic),
        )
        if not all(table.any() for table in tables):
            raise TrainingError(
                f"IIRG needs items with neighbours, and no two items are within {options.window} events of a user. "
                "Train without it, or on longer sequences."
            )
        return cls(options, tables)

    def draw(self, random: np.random.Generator, examples: int) -> Pairs:
        """The auxiliary examples of a step that has so many main ones: items and neighbours, each evenly drawn."""
        size = -(-examples // SHARE)
        drawn = []
        for table in self.tables:
            items = random.choice(np.flatnonzero(table[:, 0]), size)
            slots = random.integers(0, (table[items] > 0).sum(axis=1))
            drawn.append(np.stack([items, table[items, slots]]))
        return np.stack(drawn, axis=1)

    def loss(self, network: Tiger, item_codes: Tensor, pairs: Pairs) -> Tensor:
        """lambda_1 * collaborative + lambda_2 * semantic, on the device of `item_codes`."""
        items, neighbours = torch.from_numpy(pairs.reshape(2, -1)).to(item_codes.device)
        openings = torch.tensor([network.config.task_token(task) for task in range(TASKS)], device=item_codes.device)
        logits = network(items[:, None], neighbours, item_codes, openings.repeat_interleave(pairs.shape[-1])).float()
        targets = network.code_tokens(item_codes[neighbours])
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(TASKS, -1).mean(dim=1)
        return self.options.lambda_1 * losses[0] + self.options.lambda_2 * losses[1]
