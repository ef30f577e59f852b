"""The demo catalogue: its files, its determinism, and the regularities that are planted in it."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from training.data.dataset import Dataset, load_dataset
from training.data.demo import COMPOSITIONAL, EXPLORE, HABIT, KIT, RIVAL, SIZE_UP, Walks, simulate, write_demo
from training.data.demo_catalogue import SUBCATEGORIES, Ints, attributes
from training.data.demo_shop import NOTHING, Shop


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return load_dataset(folder)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop.build(attributes(3000), np.random.default_rng(3))


@pytest.fixture(scope="module")
def walks(shop: Shop) -> Walks:
    return simulate(shop, 8000, np.random.default_rng(4))


def steps(walks: Walks, cause: int) -> tuple[Ints, Ints]:
    """The (last, next) items of all steps with this cause."""
    user, step = np.nonzero(walks.causes[:, 1:] == cause)
    return walks.items[user, step], walks.items[user, step + 1]


def seen_in_training(data: Dataset) -> np.ndarray:
    """Whether each test target directly follows the last history item somewhere in training."""
    pairs = {pair for s in data.training_sequences() for pair in zip(s[:-1].tolist(), s[1:].tolist(), strict=True)}
    test = data.instances("test")
    return np.array([(int(h[-1]), int(t)) in pairs for h, t in zip(test.histories, test.targets, strict=True)])


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    def digest(name: str, seed: int) -> list[str]:
        write_demo(tmp_path / name, items=800, users=300, seed=seed)
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted((tmp_path / name).iterdir())]

    first = digest("a", 5)
    assert len(first) == 2
    assert digest("b", 5) == first
    assert digest("c", 6)[0] != first[0]


def test_size_and_lengths(dataset: Dataset) -> None:
    lengths = np.array([len(sequence) for sequence in dataset.sequences])
    assert (len(dataset.user_ids), dataset.num_items) == (8000, 3000)
    assert dataset.items["item_id"][0].as_py() == "D00001"
    assert (lengths.min(), lengths.max()) == (5, 30)
    assert 8 < lengths.mean() < 10
    assert dataset.report.dropped == {}


def test_no_user_has_an_item_twice(dataset: Dataset) -> None:
    assert all(len(set(s.tolist())) == len(s) for s in dataset.sequences)


def test_nearly_every_item_has_five_events(dataset: Dataset) -> None:
    counts = np.bincount(np.concatenate(dataset.sequences), minlength=dataset.num_items + 1)[1:]
    assert np.mean(counts >= 5) > 0.99


def test_items_are_readable(dataset: Dataset) -> None:
    rows = dataset.items.to_pylist()
    assert len({row["title"] for row in rows}) == len(rows)
    for row in rows:
        assert row["title"].startswith(row["brand"])
        assert row["text"].startswith(row["title"])
        assert len(row["categories"]) == 2
        assert 3 < row["price"] < 900


def test_memorization_is_a_minority_of_the_test_split(dataset: Dataset) -> None:
    assert 0.10 < seen_in_training(dataset).mean() < 0.25


def test_habits_repeat_the_same_pairs(shop: Shop, walks: Walks) -> None:
    last, following = steps(walks, HABIT)
    assert (shop.successors[last] == following[:, None]).any(axis=1).all()
    _, counts = np.unique(last * 3000 + following, return_counts=True)
    assert counts.mean() > 5
    assert counts.max() > 10 * np.median(counts)  # a heavy tail


def test_kits_share_the_brand_and_match_the_subcategory(shop: Shop, walks: Walks) -> None:
    last, following = steps(walks, KIT)
    items = shop.items
    assert (items.brand[last] == items.brand[following]).all()
    assert (items.department[last] == items.department[following]).all()
    assert set((items.subcategory[following] - items.subcategory[last]) % SUBCATEGORIES) == {1, 2}


def test_size_up_stays_in_the_line(shop: Shop, walks: Walks) -> None:
    last, following = steps(walks, SIZE_UP)
    assert (shop.items.line[last] == shop.items.line[following]).all()
    assert (shop.items.size[last] + 1 == shop.items.size[following]).all()


def test_rivals_have_the_size_of_the_user(shop: Shop, walks: Walks) -> None:
    size = np.where(walks.causes == RIVAL, shop.items.size[walks.items], NOTHING)
    largest = size.max(axis=1, initial=0)
    assert ((size == NOTHING) | (size == largest[:, None])).all()


def test_colours_alternate_between_compositional_steps(shop: Shop, walks: Walks) -> None:
    alternating = [
        colours[:-2] == colours[2:]
        for items, causes in zip(walks.items, walks.causes, strict=True)
        if len(colours := shop.items.colour[items[np.isin(causes, COMPOSITIONAL)]]) > 2
    ]
    assert np.concatenate(alternating).mean() > 0.8  # the rest is drift


def test_compositional_pairs_are_mostly_new_but_have_few_candidates(shop: Shop, walks: Walks) -> None:
    length = (walks.items != NOTHING).sum(axis=1)
    user = np.arange(len(length))
    last, target = walks.items[user, length - 2], walks.items[user, length - 1]
    trained = np.arange(1, walks.items.shape[1]) < (length - 2)[:, None]
    known = np.unique((walks.items[:, :-1] * 3000 + walks.items[:, 1:])[trained])
    seen = np.isin(last * 3000 + target, known)
    cause = walks.causes[user, length - 1]
    assert seen[cause == HABIT].mean() > 0.9
    assert seen[np.isin(cause, COMPOSITIONAL)].mean() < 0.25

    items = shop.items
    group = (items.subcategory * 10 + items.colour) * 10
    for attribute in (items.brand, items.size):  # kits and rivals: two subcategories, one colour, one brand or size
        assert 2 * np.unique(group + attribute, return_counts=True)[1].max() <= 20


def test_users_differ(walks: Walks) -> None:
    long = (walks.items != NOTHING).sum(axis=1) >= 15
    share = np.mean(walks.causes[long] == EXPLORE, axis=1)
    assert np.quantile(share, 0.9) > 2 * np.quantile(share, 0.1)


@pytest.mark.parametrize(("items", "users"), [(719, 10), (3000, 0)])
def test_too_small_a_demo_is_refused(tmp_path: Path, items: int, users: int) -> None:
    with pytest.raises(DataError, match=f"at least 720 items .* got items={items}, users={users}"):
        write_demo(tmp_path, items=items, users=users)
    assert not list(tmp_path.iterdir())
