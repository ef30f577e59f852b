"""Options of the readers as words of the command line."""

from pathlib import Path

import pytest

from models.errors import DataError
from training.data.options import ReadOptions, parse_options


def test_words_become_options() -> None:
    words = ["format=table", "user_column=who", "min_count=5", "items=some/file.csv", "on_bad_rows=drop"]
    assert parse_options(words) == ReadOptions(
        format="table", user_column="who", min_count=5, items=Path("some/file.csv"), on_bad_rows="drop"
    )
    assert parse_options([]) == ReadOptions()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("min_count", "takes NAME=VALUE"),
        ("colour=red", "takes NAME=VALUE with a NAME of format, user_column"),
        ("min_count=many", "--read min_count: .*; got 'many'"),
        ("format=excel", "--read format: .*; got 'excel'"),
    ],
)
def test_words_that_do_not_fit_are_named(word: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_options([word])
