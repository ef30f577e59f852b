"""Raw public formats: small files with invented rows in the shape of the real ones."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from training.data.dataset import Dataset, load_dataset
from training.data.options import Format, ReadOptions
from training.data.raw import recognise

ALL = ReadOptions(min_count=1)
Row = Mapping[str, Any]


def write(path: Path, lines: Sequence[str], encoding: str = "utf-8") -> Path:
    data = "\n".join([*lines, ""]).encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_json(path: Path, rows: Sequence[Row]) -> Path:
    return write(path, [json.dumps(row) for row in rows])


def write_literals(path: Path, rows: Sequence[Row]) -> Path:
    return write(path, [repr(row) for row in rows])


def sequences(dataset: Dataset) -> dict[str, list[str]]:
    ids = dataset.items["item_id"].to_pylist()
    return {u: [ids[i - 1] for i in s] for u, s in zip(dataset.user_ids, dataset.sequences, strict=True)}


def item(dataset: Dataset, item_id: str) -> dict[str, Any]:
    (row,) = (row for row in dataset.items.to_pylist() if row["item_id"] == item_id)
    return dict(row)


def reviews(user: str, item: str, time: str, events: Sequence[tuple[str, str, object]]) -> list[Row]:
    return [{user: u, item: i, "overall": 5.0, "reviewText": 'It\'s "fine".', time: t} for u, i, t in events]


EVENTS = [("ann", "B2", 30), ("ann", "B3", 10), ("bob", "B1", 5), ("ann", "B1", 20)]
EXPECTED = {"ann": ["B3", "B1", "B2"], "bob": ["B1"]}


def test_amazon_2014(tmp_path: Path) -> None:
    write_json(tmp_path / "reviews_Garden_5.json.gz", reviews("reviewerID", "asin", "unixReviewTime", EVENTS))
    write_literals(
        tmp_path / "meta_Garden.json.gz",
        [
            {
                "asin": "B1",
                "title": "Jo's Hoe",
                "price": 9.5,
                "categories": [["Garden", "Hoes"], ["Sale"]],
                "brand": "Jo",
            },
            {"asin": "B9", "title": "Never reviewed"},
            {"asin": "B2", "description": "A rake."},
        ],
    )
    data = load_dataset(tmp_path, ALL)
    assert (data.name, sequences(data), data.num_items) == ("Garden", EXPECTED, 3)
    assert item(data, "B1") == {
        "item_id": "B1", "title": "Jo's Hoe", "text": "Jo's Hoe. Jo. Garden, Hoes", "brand": "Jo",
        "categories": ["Garden", "Hoes"], "price": 9.5,
    }  # fmt: skip
    assert item(data, "B2")["text"] == "A rake"
    assert data.report.notes == ("1 of 3 items have no text",)


def test_amazon_2014_metadata_may_be_strict_json_and_reviews_loose(tmp_path: Path) -> None:
    write_literals(tmp_path / "reviews_Garden.json.gz", reviews("reviewerID", "asin", "unixReviewTime", EVENTS))
    write_json(tmp_path / "meta_Garden.json.gz", [{"asin": "B1", "title": "Hoe", "salesRank": None, "related": {}}])
    data = load_dataset(tmp_path / "reviews_Garden.json.gz", ALL)
    assert (sequences(data), item(data, "B1")["title"]) == (EXPECTED, "Hoe")


def test_amazon_2018(tmp_path: Path) -> None:
    write_json(tmp_path / "Garden_5.json.gz", reviews("reviewerID", "asin", "unixReviewTime", EVENTS))
    meta = {
        "asin": "B3", "title": "A\n spade", "category": ["Garden", "Spades"], "brand": "Jo", "price": "$12.99",
        "description": ["Digs.", "Deep."],
    }  # fmt: skip
    write_json(tmp_path / "meta_Garden.json.gz", [meta, {"asin": "B2", "price": "$1.00 - $2.00"}, meta])
    data = load_dataset(tmp_path, ALL)
    assert (data.name, sequences(data)) == ("Garden", EXPECTED)
    spade = item(data, "B3")
    assert (spade["title"], spade["brand"], spade["price"]) == ("A spade", "Jo", 12.99)
    assert spade["text"] == "A spade. Jo. Garden, Spades. Digs. Deep"
    assert item(data, "B2")["price"] is None
    assert data.report.dropped == {"items file: repeated row of an item": 1}


def test_amazon_2023(tmp_path: Path) -> None:
    events = [(u, i, t * 1000 + 1_600_000_000_000) for u, i, t in EVENTS]
    rows = [{**row, "asin": "variant"} for row in reviews("user_id", "parent_asin", "timestamp", events)]
    write_json(tmp_path / "Garden.jsonl.gz", rows)
    meta = {
        "parent_asin": "B3",
        "title": "Spade",
        "categories": ["Garden"],
        "store": "Jo",
        "price": None,
        "description": [],
    }
    write_json(tmp_path / "meta_Garden.jsonl.gz", [meta])
    data = load_dataset(tmp_path, ALL)
    assert (data.name, sequences(data)) == ("Garden", EXPECTED)
    assert item(data, "B3") == {
        "item_id": "B3", "title": "Spade", "text": "Spade. Jo. Garden", "brand": "Jo", "categories": ["Garden"]
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_movielens_1m_and_10m(tmp_path: Path, encoding: str) -> None:
    write(tmp_path / "ratings.dat", ["1::10::5::30", "1::9::4::10", "1::2::3::20"])
    write(tmp_path / "movies.dat", ["9::Amélie: The Film (2001)::Comedy|Romance", "10::X::Drama"], encoding)
    data = load_dataset(tmp_path, ALL)
    assert (data.name, sequences(data)) == ("movielens1m", {"1": ["9", "2", "10"]})
    assert data.items["item_id"].to_pylist() == ["2", "9", "10"]
    assert item(data, "9")["title"] == "Amélie: The Film (2001)"
    assert item(data, "9")["categories"] == ["Comedy", "Romance"]


def test_movielens_csv(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", ["userId,movieId,rating,timestamp", "1,10,5.0,30", "1,9,4.0,10", "1,2,3.0,20"])
    write(tmp_path / "movies.csv", ["movieId,title,genres", '9,"Film, The (2001)",Comedy|Romance'])
    data = load_dataset(tmp_path, ALL)
    assert (data.name, sequences(data)) == ("movielens", {"1": ["9", "2", "10"]})
    assert (item(data, "9")["title"], item(data, "9")["categories"]) == ("Film, The (2001)", ["Comedy", "Romance"])


def test_movielens_100k(tmp_path: Path) -> None:
    write(tmp_path / "u.data", ["1\t10\t5\t30", "1\t9\t4\t10", "1\t2\t3\t20"])
    flags = ["0"] * 19
    flags[1] = flags[18] = "1"
    write(tmp_path / "u.item", ["9|Amélie (2001)|01-Jan-2001||http://x|" + "|".join(flags)], "latin-1")
    data = load_dataset(tmp_path, ALL)
    assert sequences(data) == {"1": ["9", "2", "10"]}
    assert (item(data, "9")["title"], item(data, "9")["categories"]) == ("Amélie (2001)", ["Action", "Western"])


def test_steam(tmp_path: Path) -> None:
    days = {10: "2017-01-31", 20: "2017-02-01", 30: "2017-10-01", 5: "2016-12-31"}
    events = [(u, i, days[t]) for u, i, t in EVENTS]
    write_literals(tmp_path / "steam_reviews.json.gz", reviews("username", "product_id", "date", events))
    games: list[Row] = [
        {"id": "B1", "app_name": "Jo's Quest", "genres": ["Indie", "RPG"], "price": "Free To Play", "developer": "Jo"},
        {"app_name": "No id"},
        {"id": "B2", "app_name": "Two", "price": 4.99},
    ]
    write_literals(tmp_path / "steam_games.json.gz", games)
    data = load_dataset(tmp_path, ALL)
    assert sequences(data) == EXPECTED
    assert (item(data, "B1")["title"], item(data, "B1")["brand"], item(data, "B1")["price"]) == (
        "Jo's Quest",
        "Jo",
        None,
    )
    assert item(data, "B2")["price"] == 4.99
    assert data.report.dropped == {"items file: missing item id": 1}


def test_yelp(tmp_path: Path) -> None:
    events = [(u, i, f"2018-07-07 22:09:{t:02d}") for u, i, t in EVENTS]
    write_json(tmp_path / "yelp_academic_dataset_review.json", reviews("user_id", "business_id", "date", events))
    places: list[Row] = [
        {"business_id": "B1", "name": "Cafe", "categories": "Coffee & Tea, Food", "city": "Reno", "state": "NV"},
        {"business_id": "B2", "name": "Bar", "categories": None},
    ]
    write_json(tmp_path / "yelp_academic_dataset_business.json", places)
    data = load_dataset(tmp_path, ALL)
    assert (data.name, sequences(data)) == ("yelp", EXPECTED)
    assert item(data, "B1")["categories"] == ["Coffee & Tea", "Food"]
    assert item(data, "B1")["text"] == "Cafe. Coffee & Tea, Food. Reno, NV"


def test_the_5_core_is_the_default(tmp_path: Path) -> None:
    block = [(f"u{u}", f"B{i}", i) for u in range(5) for i in range(5)]
    write_json(
        tmp_path / "reviews_X.json",
        reviews("reviewerID", "asin", "unixReviewTime", [*block, ("u0", "rare", 9), *EVENTS]),
    )
    data = load_dataset(tmp_path)
    assert (len(data.user_ids), data.num_items, data.report.kept) == (5, 5, 25)
    assert data.report.dropped == {"outside the 5-core": 1 + len(EVENTS)}


def test_bad_lines_are_named_or_counted(tmp_path: Path) -> None:
    rows = [json.dumps(row) for row in reviews("reviewerID", "asin", "unixReviewTime", EVENTS)]
    path = write(tmp_path / "Garden_5.json.gz", [*rows[:2], "{'python': 'literal'}", *rows[2:]])
    with pytest.raises(DataError, match=r"Garden_5\.json\.gz: row 3: broken line"):
        load_dataset(path)
    data = load_dataset(path, ReadOptions(min_count=1, on_bad_rows="drop"))
    assert (sequences(data), data.report.dropped, data.report.rows) == (EXPECTED, {"broken line": 1}, 5)


def test_literal_lines_are_never_executed(tmp_path: Path) -> None:
    path = write(tmp_path / "steam_reviews.json.gz", ["{'username': __import__('os').getcwd()}"])
    with pytest.raises(DataError, match="row 1: broken line, not an object"):
        load_dataset(path)


def test_separated_lines_with_missing_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.dat", ["1::10::5::30", "1::9::4"])
    with pytest.raises(DataError, match=r"ratings\.dat: row 2: broken line, 4 columns are expected, got 3"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("names", "asked", "kind"),
    [
        (["reviews_A_5.json.gz", "meta_A.json.gz"], "", "amazon2014"),
        (["A.json.gz", "meta_A.json.gz"], "", "amazon2018"),
        (["A.jsonl.gz", "meta_A.jsonl.gz"], "", "amazon2023"),
        (["A.jsonl.gz"], "A.jsonl.gz", "table"),
        (["ratings.csv"], "ratings.csv", "table"),
        (["ratings.csv", "movies.csv", "tags.csv"], "ratings.csv", "movielens"),
        (["yelp_academic_dataset_review.json", "yelp_academic_dataset_user.json"], "", "yelp"),
        (["interactions.parquet", "reviews_A.json.gz"], "", "table"),
    ],
)
def test_recognition(tmp_path: Path, names: list[str], asked: str, kind: Format) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert recognise(tmp_path / asked) == kind


def test_several_candidates_are_refused(tmp_path: Path) -> None:
    for name in ("reviews_A.json.gz", "reviews_B.json.gz"):
        (tmp_path / name).touch()
    with pytest.raises(
        DataError, match=r"one amazon2014 file is needed, found \['reviews_A.json.gz', 'reviews_B.json.gz'\]"
    ):
        load_dataset(tmp_path)


def test_the_format_can_be_said(tmp_path: Path) -> None:
    events = [(u, i, t * 1000) for u, i, t in EVENTS]
    path = write_json(tmp_path / "anything.jsonl", reviews("user_id", "parent_asin", "timestamp", events))
    items = write_json(tmp_path / "things.jsonl", [{"parent_asin": "B1", "title": "One"}])
    data = load_dataset(path, ReadOptions(format="amazon2023", items=items, min_count=1))
    assert (sequences(data), item(data, "B1")["title"]) == (EXPECTED, "One")
