"""What the public data sets look like: one `RawFormat` each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from training.data.events import RowPolicy
from training.data.files import Record, json_records, split_records
from training.data.options import Format

Reader = Callable[[Path, RowPolicy], Iterable[Record]]
Values = Mapping[str, Any]

_loose_json = partial(json_records, literals=True)


@dataclass(frozen=True)
class RawFormat:
    """One public format: its file names, its columns, and where item attributes come from."""

    files: tuple[str, ...]  # patterns of the interactions file; the first that matches decides
    columns: tuple[str, str, str]  # user, item, time
    item_files: tuple[str, ...]  # "{stem}" is the interactions file's name without suffixes, "reviews_" and "_5"
    item_column: str
    attributes: Callable[[Values], Values]  # a row of the items file -> what items.make_item understands
    read: Reader | None = None  # both: None for a table that names its columns
    read_items: Reader | None = None


def _amazon(values: Values) -> Values:
    return {
        "title": values.get("title"),
        "brand": values.get("brand") or values.get("store"),
        "categories": values.get("categories") or values.get("category"),
        "price": values.get("price"),
        "description": values.get("description"),
    }


def _movie(values: Values) -> Values:
    return {"title": values["title"], "categories": values["genres"]}


GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def _movie_100k(values: Values) -> Values:
    return {"title": values["title"], "categories": [genre for genre in GENRES if values[genre] == "1"]}


def _game(values: Values) -> Values:
    return {
        "title": values.get("app_name") or values.get("title"),
        "brand": values.get("developer") or values.get("publisher"),
        "categories": values.get("genres") or values.get("tags"),
        "price": values.get("price"),
    }


def _business(values: Values) -> Values:
    place = ", ".join(filter(None, (values.get("city"), values.get("state"))))
    return {
        "title": values.get("name"),
        "categories": (values.get("categories") or "").split(", "),
        "description": place,
    }


_AMAZON_ITEMS = ("meta_{stem}.json.gz", "meta_{stem}.json")

FORMATS: dict[Format, RawFormat] = {
    "amazon2014": RawFormat(
        files=("reviews_*.json.gz", "reviews_*.json"),
        columns=("reviewerID", "asin", "unixReviewTime"),
        item_files=_AMAZON_ITEMS,
        item_column="asin",
        attributes=_amazon,
        read=_loose_json,
        read_items=_loose_json,
    ),
    "movielens100k": RawFormat(
        files=("u.data",),
        columns=("user_id", "item_id", "timestamp"),
        item_files=("u.item",),
        item_column="item_id",
        attributes=_movie_100k,
        read=partial(split_records, separator="\t", names=("user_id", "item_id", "rating", "timestamp")),
        read_items=partial(
            split_records, separator="|", names=("item_id", "title", "released", "video", "url", *GENRES)
        ),
    ),
    "movielens1m": RawFormat(
        files=("ratings.dat",),
        columns=("user_id", "item_id", "timestamp"),
        item_files=("movies.dat",),
        item_column="item_id",
        attributes=_movie,
        read=partial(split_records, separator="::", names=("user_id", "item_id", "rating", "timestamp")),
        read_items=partial(split_records, separator="::", names=("item_id", "title", "genres")),
    ),
    "movielens": RawFormat(
        files=("ratings.csv",),
        columns=("userId", "movieId", "timestamp"),
        item_files=("movies.csv",),
        item_column="movieId",
        attributes=_movie,
    ),
    "steam": RawFormat(
        files=("steam_reviews.json.gz", "steam_reviews.json"),
        columns=("username", "product_id", "date"),
        item_files=("steam_games.json.gz", "steam_games.json"),
        item_column="id",
        attributes=_game,
        read=_loose_json,
        read_items=_loose_json,
    ),
    "yelp": RawFormat(
        files=("yelp_academic_dataset_review.json", "yelp_academic_dataset_review.json.gz"),
        columns=("user_id", "business_id", "date"),
        item_files=("yelp_academic_dataset_business.json", "yelp_academic_dataset_business.json.gz"),
        item_column="business_id",
        attributes=_business,
        read=json_records,
        read_items=json_records,
    ),
    # The last two have the widest patterns, so they are tried last.
    "amazon2023": RawFormat(
        files=("*.jsonl.gz", "*.jsonl"),
        columns=("user_id", "parent_asin", "timestamp"),
        item_files=("meta_{stem}.jsonl.gz", "meta_{stem}.jsonl"),
        item_column="parent_asin",
        attributes=_amazon,
    ),
    "amazon2018": RawFormat(
        files=("*.json.gz", "*_5.json"),
        columns=("reviewerID", "asin", "unixReviewTime"),
        item_files=_AMAZON_ITEMS,
        item_column="asin",
        attributes=_amazon,
        read=json_records,
        read_items=_loose_json,
    ),
}
