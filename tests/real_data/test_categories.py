"""Counts of categories on Amazon 2014, and the shares that arXiv 2603.19809 publishes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from models.categories import Categories, categorize
from models.prefixes import prefix_transitions
from models.token_memorization import TokenMemorization, memorize
from training.data.dataset import load_dataset
from training.index_build import build_index
from training.report.prefixes import prefixes_by_category


class Labelled(NamedTuple):
    """The test instances of one data set."""

    name: str
    categories: Categories
    tokens: TokenMemorization  # of semantic ids of one code, which is the item


COUNTS = {
    "beauty": {
        "memorization": 1925,
        "generalization": 18170,
        "substitutability_2": 1488,
        "symmetry_1": 459,
        "transitivity_1": 3632,
        "2nd-symmetry_1": 5378,
        "2nd-symmetry_4": 1769,
    },
    "sports": {"memorization": 1827, "generalization": 30165, "2nd-symmetry_2": 11719},
    "toys": {"memorization": 1565, "generalization": 14967},
}

# % whose whole semantic id is memorized: figure 4, and for sports table 3. No tokenizer changes these.
WHOLE_IDS = {
    "beauty": {"symmetry": 51.9, "transitivity": 24.8, "2nd-symmetry": 21.2, "uncategorized": 0},
    "sports": {
        "symmetry": 46.6,
        "transitivity": 20.2,
        "2nd-symmetry": 17.5,
        "uncategorized": 0,
        "all but memorization": 15.06,
    },
}


@pytest.fixture(scope="module", params=COUNTS)
def labelled(request: pytest.FixtureRequest, folder: Path) -> Labelled:
    dataset = load_dataset(folder / f"amazon2014_{request.param}")
    index = build_index(dataset.training_sequences(), dataset.num_items)
    instances = dataset.instances("test")
    items = np.arange(dataset.num_items + 1)[:, None]
    return Labelled(
        request.param,
        categorize(index, instances.histories, instances.targets),
        memorize(prefix_transitions(index, items), instances.histories, instances.targets),
    )


def test_counts_are_the_known_ones(labelled: Labelled) -> None:
    counts = labelled.categories.counts()
    expected = COUNTS[labelled.name]
    assert {label: counts[label] for label in expected} == expected


def test_memorized_items_have_the_published_shares(labelled: Labelled) -> None:
    table = prefixes_by_category(labelled.categories, labelled.tokens)
    for label, published in WHOLE_IDS.get(labelled.name, {}).items():
        assert 100 * table[label]["1"] / sum(table[label].values()) == pytest.approx(published, abs=0.06), label
