"""What a data set is like: size, lengths, and how far its held-out items can be known from training."""

import numpy as np
from pydantic import BaseModel

from training.data.dataset import Dataset, Instances


class Statistics(BaseModel):
    """Table 2 of arXiv 2603.19809, and what decides how protocols A and B differ."""

    name: str
    users: int
    items: int
    interactions: int
    sparsity: float
    """Share of all pairs of user and item without an interaction, repeats counted as often as they occur."""
    mean_length: float
    median_length: float
    longest: int
    instances: int
    unseen_targets: float
    """Share of targets that no training sequence holds: no model that ranks items by id can know them."""
    repeated_targets: float
    """Share of targets that the history already holds: protocol B, which masks it, cannot hit them."""


def statistics(dataset: Dataset, instances: Instances) -> Statistics:
    """Describe a data set and the instances of one split."""
    lengths = np.array([len(sequence) for sequence in dataset.sequences])
    trained = np.unique(np.concatenate(dataset.training_sequences()))
    repeated = [target in history for history, target in zip(instances.histories, instances.targets, strict=True)]
    return Statistics(
        name=dataset.name,
        users=len(dataset.user_ids),
        items=dataset.num_items,
        interactions=int(lengths.sum()),
        sparsity=1.0 - float(lengths.sum()) / (len(dataset.user_ids) * dataset.num_items),
        mean_length=float(lengths.mean()),
        median_length=float(np.median(lengths)),
        longest=int(lengths.max()),
        instances=len(instances.targets),
        unseen_targets=float(np.mean(~np.isin(instances.targets, trained))),
        repeated_targets=float(np.mean(repeated)),
    )
