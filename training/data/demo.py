"""A synthetic shop to try Tandem on: readable items, and sequences with known causes.

What is planted, and why:

* **Repeated transitions** (`HABIT`). A sparse graph gives some items ("hubs") two fixed successors that no attribute
  explains. Hubs are popular with a heavy tail, so the same pairs occur again and again: a model of item ids memorizes
  them, and nothing else can predict them.
* **Compositional transitions** (`KIT`, `RIVAL`, `SIZE_UP`). The next item follows from attributes: the same brand in a
  subcategory that goes with the last one; the user's own size there, of any brand; or the next size up of the same
  line. Each user owns two colours and takes them in turn, so the next colour shows in the history but not in the last
  item. The candidates are few (about fifteen), while the pairs (last item, next item) they make over all users are so
  many that most test pairs never occur in training: semantic ids generalize to them, a table of pairs cannot.
* **Exploration** (`EXPLORE`). A popular item of the user's current department: what no model can predict well.
* **Drift and difference.** Departments and colours of a user change now and then; users differ in how much they follow
  habits and how much they explore.

No user has an item twice. The same arguments give the same data.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import DataError
from training.data.demo_catalogue import SUBCATEGORIES, SUBCATEGORY_COUNT, VARIANTS, Ints, attributes, describe
from training.data.demo_shop import NOTHING, Shop
from training.data.demo_vocabulary import COLOURS, DEPARTMENTS, SIZE_STEPS

SHORTEST, LONGEST, MEAN_LENGTH = 5, 30, 9
NEW_DEPARTMENT, NEW_COLOUR = 0.05, 0.02  # chance of a change of taste, per step
HABIT, KIT, RIVAL, SIZE_UP, EXPLORE = range(5)  # causes of a step
COMPOSITIONAL = (KIT, RIVAL, SIZE_UP)
RULES = (0.35, 0.50, 0.15)  # shares of the compositional steps
TRIES = 6  # draws from a cause before the step explores instead
FEWEST_ITEMS = SUBCATEGORY_COUNT * VARIANTS  # one product line in each subcategory


@dataclass(frozen=True)
class Walks:
    """Simulated sequences. U users, at most T = LONGEST steps; NOTHING after the end of a sequence."""

    items: Ints  # [U, T] item 0..N-1
    causes: Ints  # [U, T] why: HABIT .. EXPLORE


@dataclass
class Shoppers:
    """The users' tastes; department and colour drift. All [U]."""

    department: Ints
    colours: Ints  # [U, 2] taken in turn
    turn: Ints  # which of the two is next
    size: Ints
    habit: NDArray[np.float64]  # how readily a user follows the habits of the crowd
    curiosity: NDArray[np.float64]  # how often a user explores

    @classmethod
    def draw(cls, users: int, rng: np.random.Generator) -> "Shoppers":
        """Users with tastes of their own."""
        return cls(
            department=rng.integers(len(DEPARTMENTS), size=users),
            colours=rng.permuted(np.tile(np.arange(len(COLOURS)), (users, 1)), axis=1)[:, :2],
            turn=rng.integers(2, size=users),
            size=rng.integers(SIZE_STEPS, size=users),
            habit=rng.beta(1.5, 0.7, size=users),
            curiosity=rng.beta(1.2, 6.0, size=users),
        )

    @property
    def colour(self) -> Ints:
        """The colour of the next compositional step."""
        return self.colours[np.arange(len(self.turn)), self.turn]

    def drift(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Change some tastes; true for the users who turn to another department."""
        moved = rng.random(len(self.size)) < NEW_DEPARTMENT
        self.department = np.where(moved, rng.integers(len(DEPARTMENTS), size=len(moved)), self.department)
        repainted = rng.random(len(self.size)) < NEW_COLOUR
        self.colours = (self.colours + repainted[:, None]) % len(COLOURS)
        return moved


def write_demo(out: Path, *, items: int = 3000, users: int = 8000, seed: int = 0) -> None:
    """Write `interactions.parquet` (user_id, item_id, position) and `items.parquet` into the folder `out`."""
    if items < FEWEST_ITEMS or users < 1:
        raise DataError(
            f"the demo needs at least {FEWEST_ITEMS} items (a line in each subcategory) and 1 user, "
            f"got items={items}, users={users}"
        )
    rng = np.random.default_rng(seed)
    shop = Shop.build(attributes(items), rng)
    catalogue = describe(shop.items, rng)
    walks = simulate(shop, users, rng)
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(catalogue, out / "items.parquet")
    pq.write_table(_events(walks.items, catalogue["item_id"].combine_chunks()), out / "interactions.parquet")


def simulate(shop: Shop, users: int, rng: np.random.Generator) -> Walks:
    """Let all users walk through the shop in step."""
    shoppers = Shoppers.draw(users, rng)
    items = np.full((users, LONGEST), NOTHING)
    causes = np.full((users, LONGEST), RIVAL)
    start = shoppers.department * SUBCATEGORIES + rng.integers(SUBCATEGORIES, size=users)
    items[:, 0] = shop.first(start, shoppers.colour, shoppers.size, rng)
    for step in range(1, LONGEST):
        shoppers.turn ^= np.isin(causes[:, step - 1], COMPOSITIONAL)
        cause = _causes(shop, shoppers, items[:, step - 1], rng)
        items[:, step], causes[:, step] = _step(shop, shoppers, items[:, :step], cause, rng)
    length = np.minimum(SHORTEST - 1 + rng.geometric(1 / (MEAN_LENGTH + 1 - SHORTEST), size=users), LONGEST)
    over = np.arange(LONGEST) >= length[:, None]
    return Walks(np.where(over, NOTHING, items), np.where(over, NOTHING, causes))


def _causes(shop: Shop, shoppers: Shoppers, last: Ints, rng: np.random.Generator) -> Ints:
    """Why each user takes the next step, [U]."""
    rule = KIT + np.searchsorted(np.cumsum(RULES[:-1]), rng.random(len(last)))
    curious = shoppers.drift(rng) | (rng.random(len(last)) < shoppers.curiosity)
    habitual = rng.random(len(last)) < shop.habit[last] * shoppers.habit
    return np.where(habitual, HABIT, np.where(curious, EXPLORE, rule))


def _step(shop: Shop, shoppers: Shoppers, past: Ints, cause: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Next items and their causes, [U]: the wanted cause where it offers something new, else exploration."""
    item = np.full(len(past), NOTHING)
    tries = 0
    while (open_ := np.flatnonzero(item == NOTHING)).size:
        if tries == TRIES:
            cause = np.where(item == NOTHING, EXPLORE, cause)
        offer = _offers(shop, shoppers, past[:, -1], cause, rng)[open_]
        fresh = (offer != NOTHING) & (past[open_] != offer[:, None]).all(axis=1)
        item[open_[fresh]] = offer[fresh]
        tries += 1
    return item, cause


def _offers(shop: Shop, shoppers: Shoppers, last: Ints, cause: Ints, rng: np.random.Generator) -> Ints:
    """One draw from each user's cause, [U]; NOTHING where the cause has nothing to offer."""
    offers = [
        shop.follow_habit(last, rng),
        shop.complete_kit(last, shoppers.colour, rng),
        shop.try_rival(last, shoppers.colour, shoppers.size, rng),
        shop.size_up(last, shoppers.colour, rng),
        shop.explore(shoppers.department, rng),
    ]
    return np.choose(cause, offers)


def _events(items: Ints, item_ids: pa.Array) -> pa.Table:
    user, position = np.nonzero(items != NOTHING)
    width = len(str(len(items)))
    names = pa.array([f"U{number + 1:0{width}d}" for number in range(len(items))])
    return pa.table(
        {
            "user_id": names.take(pa.array(user)),
            "item_id": item_ids.take(pa.array(items[user, position])),
            "position": pa.array(position, pa.int32()),
        }
    )
