"""The items of the demo data set: departments, subcategories, brands, lines, and variants of colour and size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.demo_vocabulary import COLOURS, DEPARTMENTS, LINES, PRAISE, SIZE_STEPS, SIZES
from training.data.items import make_item

SUBCATEGORIES = 5  # per department
BRANDS = 4  # per department
VARIANTS = SIZE_STEPS * len(COLOURS)  # per product line: sizes x colours
SUBCATEGORY_COUNT = len(DEPARTMENTS) * SUBCATEGORIES
MARKUP = (1.0, 1.3, 1.75)  # by size

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Attributes:
    """What each item is, as numbers. All [N]; row i is item i."""

    line: Ints  # product line, unique over the catalogue
    subcategory: Ints  # 0..39; department = subcategory // 5
    brand: Ints  # 0..3 inside the department
    colour: Ints
    size: Ints

    @property
    def department(self) -> Ints:
        """0..7."""
        return self.subcategory // SUBCATEGORIES


def attributes(items: int) -> Attributes:
    """Deal `items` items: product lines go round all (brand, subcategory) pairs, each line in every colour and size."""
    line, variant = np.divmod(np.arange(items), VARIANTS)
    subcategory = line % SUBCATEGORY_COUNT
    brand = (line // SUBCATEGORY_COUNT) % BRANDS
    size, colour = np.divmod(variant, len(COLOURS))
    return Attributes(line, subcategory, brand, colour, size)


def describe(items: Attributes, rng: np.random.Generator) -> pa.Table:
    """Titles, prices and texts of the items, ready for `items.parquet`."""
    lines = int(items.line.max()) + 1
    edition, cell = np.divmod(np.arange(lines), SUBCATEGORY_COUNT * BRANDS)
    line_name = (rng.integers(len(LINES), size=SUBCATEGORY_COUNT * BRANDS)[cell] + edition) % len(LINES)
    praise = rng.integers(len(PRAISE), size=lines)
    markup = rng.lognormal(0.0, 0.25, size=lines)
    rows = [_row(items, i, LINES[line_name[n]], PRAISE[praise[n]], markup[n]) for i, n in enumerate(items.line)]
    return pa.Table.from_pylist(rows)


def item_id(item: int) -> str:
    """The id of item 0, 1, ... as the data set spells it."""
    return f"D{item + 1:05d}"


def _row(items: Attributes, i: int, line: str, praise: str, markup: float) -> dict[str, Any]:
    department = DEPARTMENTS[items.department[i]]
    name, product, sizes, base = department.subcategories[items.subcategory[i] % SUBCATEGORIES]
    brand, colour, size = department.brands[items.brand[i]], COLOURS[items.colour[i]], SIZES[sizes][items.size[i]]
    row = {
        "item_id": item_id(i),
        "title": f"{brand} {line} {product}, {size}, {colour}",
        "brand": brand,
        "categories": [department.name, name],
        "price": max(round(base * markup * MARKUP[items.size[i]]), 1) - 0.01,
        "description": f"{product} of the {line} line in {colour.lower()}, size {size}. {praise}",
    }
    return row | {"text": make_item(row["item_id"], row)["text"]}
