"""The transition index: rows, the packed row, the row table and the file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BundleError
from models.transitions import DIRECTIONS, EMPTY_ROW, HOPS, Row, Rows, RowTable, TransitionIndex, Transitions
from models.transitions import decode_row as decode
from models.transitions import encode_row as encode
from training.index_build import build_index

NUM_ITEMS = 30


def random_index(seed: int) -> TransitionIndex:
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(1, NUM_ITEMS + 1, rng.integers(0, 9)).astype(np.int32) for _ in range(25)]
    return build_index(sequences, NUM_ITEMS)


def plain(row: Row) -> list[list[int]]:
    return [part.tolist() for part in (*row.neighbours, *row.counts)]


def edges(rows: Transitions, items: list[int]) -> list[tuple[int, ...]]:
    return sorted(zip(*(array.tolist() for array in rows.gather(np.array(items, dtype=np.int64))), strict=True))


def arrays(index: TransitionIndex) -> list[np.ndarray]:
    sides = (index.forward, index.backward)
    return [array for side in sides for field in (side.offsets, side.neighbours, side.counts) for array in field]


def same(left: TransitionIndex, right: TransitionIndex) -> bool:
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(arrays(left), arrays(right), strict=True))


distance = st.dictionaries(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), max_size=6)


@given(st.tuples(*[distance] * HOPS))
def test_a_row_survives_its_packed_value(distances: tuple[dict[int, int], ...]) -> None:
    row = Row(
        neighbours=tuple(np.array(sorted(found), dtype=np.int32) for found in distances),
        counts=tuple(np.array([found[item] for item in sorted(found)], dtype=np.int32) for found in distances),
    )
    value = encode(row)
    assert plain(decode(value)) == plain(row)
    assert len(value) == 16 + 8 * sum(len(found) for found in distances)
    assert {part.dtype for part in (*decode(value).neighbours, *decode(value).counts)} == {np.dtype("<i4")}


def test_the_packed_value_is_laid_out_as_documented() -> None:
    index = build_index([np.array([3, 5, 4, 5], dtype=np.int32)], 5)
    words = np.frombuffer(encode(index.row("forward", 3)), dtype="<i4")
    assert words.tolist() == [1, 1, 1, 0, 5, 4, 5, 1, 1, 1]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0" * 15,
        encode(EMPTY_ROW) + b"\0",
        encode(EMPTY_ROW) + b"\0" * 8,
        np.array([1, 0, 0, 0, 7], dtype="<i4").tobytes(),
        np.array([2, -1, 0, 0, 7, 1], dtype="<i4").tobytes(),
    ],
)
def test_a_value_that_is_no_row_is_refused(value: bytes) -> None:
    with pytest.raises(BundleError, match=f"received {len(value)} bytes"):
        decode(value)


def test_adjacent_counts_are_those_of_distance_one() -> None:
    index = build_index([np.array(sequence, dtype=np.int32) for sequence in ([1, 2, 3], [1, 2], [1, 4])], 6)
    row = index.row("forward", 1)
    assert row.adjacent_counts(np.array([[2, 3], [4, 6]])).tolist() == [[2, 0], [1, 0]]
    assert EMPTY_ROW.adjacent_counts(np.array([2, 3])).tolist() == [0, 0]
    assert index.row("backward", 2).adjacent_counts(np.array([1])).tolist() == [2]


@pytest.mark.parametrize("item", [-1, 0, NUM_ITEMS + 1, 10**9])
def test_an_item_the_index_does_not_know_has_an_empty_row(item: int) -> None:
    index = random_index(0)
    for direction in DIRECTIONS:
        assert plain(index.row(direction, item)) == plain(EMPTY_ROW)
    assert edges(index, [item]) == []


@pytest.mark.parametrize("seed", range(5))
def test_gathering_equals_reading_row_by_row(seed: int) -> None:
    index = random_index(seed)
    items = [5, 0, 7, 7, NUM_ITEMS + 4, NUM_ITEMS, 1]
    expected = [
        (position, side, hop, neighbour, times)
        for position, item in enumerate(items)
        for side, direction in enumerate(DIRECTIONS)
        for hop, parts in enumerate(plain(index.row(direction, item))[:HOPS], start=1)
        for neighbour, times in zip(parts, plain(index.row(direction, item))[HOPS + hop - 1], strict=True)
    ]
    assert expected
    assert edges(index, items) == sorted(expected)


@pytest.mark.parametrize("seed", range(5))
def test_a_table_of_decoded_rows_gathers_what_the_index_gathers(seed: int) -> None:
    index = random_index(seed)
    wanted = [3, 8, 8, 21, 0, NUM_ITEMS + 1]
    table = RowTable(
        {item: Rows(*(decode(encode(index.row(direction, item))) for direction in DIRECTIONS)) for item in set(wanted)}
    )
    assert edges(table, wanted) == edges(index, wanted)


def test_a_table_has_no_rows_for_other_items() -> None:
    assert edges(RowTable({}), [1, 2]) == edges(RowTable({}), []) == []


@pytest.mark.parametrize("seed", range(3))
def test_an_index_survives_its_file_and_always_gives_the_same_bytes(seed: int, tmp_path: Path) -> None:
    index, first, second = random_index(seed), tmp_path / "first.npz", tmp_path / "second.npz"
    index.save(first)
    read = TransitionIndex.load(first)
    read.save(second)
    assert same(read, index)
    assert first.read_bytes() == second.read_bytes()


def test_an_empty_index_survives_its_file(tmp_path: Path) -> None:
    index = build_index([], 0)
    index.save(tmp_path / "empty.npz")
    assert same(TransitionIndex.load(tmp_path / "empty.npz"), index)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path, index, refused = tmp_path / "transitions.npz", random_index(1), 0
    index.save(path)
    content = path.read_bytes()
    for place in range(0, len(content), 11):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert same(TransitionIndex.load(path), index)  # a date, say
        except BundleError:
            refused += 1
    assert refused > len(content) / 11 / 2


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "transitions.npz"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"transitions\.npz"):
        TransitionIndex.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No such file"):
        TransitionIndex.load(tmp_path / "transitions.npz")


def altered(name: str, values: np.ndarray | None, path: Path) -> None:
    """Save the index of 1 -> 2 -> 3 with one array replaced, or left out."""
    build_index([np.array([1, 2, 3], dtype=np.int32)], 3).save(path)
    with np.load(path) as archive:
        content = dict(archive)
    content.pop(name)
    if values is not None:
        content[name] = values
    np.savez_compressed(path, **content)


def int32(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("backward_counts_4", None, "backward_counts_4"),
        ("forward_neighbours_1", np.array([2, 3]), "int64, expected 1-d int32"),
        ("forward_neighbours_1", np.array([[2, 3]], dtype=np.int32), "2-d int32"),
        ("forward_neighbours_1", np.array([2, "3"], dtype=object), "allow_pickle"),
        ("forward_neighbours_1", int32(2, 4), r"outside 1\.\.3"),
        ("forward_neighbours_1", int32(0, 3), r"outside 1\.\.3"),
        ("forward_counts_1", int32(1), "1 counts for 2 neighbours"),
        ("forward_counts_1", int32(1, 0), "a count below 1"),
        ("forward_offsets_1", np.array([], dtype=np.int64), "0 offsets"),
        ("backward_offsets_1", np.array([0, 0, 0, 2]), "4 offsets where 5 were expected"),
        ("forward_offsets_1", np.array([0, 0, 1, 2, 3]), "do not divide its 2 neighbours"),
        ("forward_offsets_1", np.array([0, 0, 2, 1, 2]), "do not divide its 2 neighbours"),
        ("forward_offsets_1", np.array([0, 1, 1, 2, 2]), "do not divide its 2 neighbours"),
        ("forward_neighbours_2", int32(), "distance 2"),
    ],
)
def test_arrays_that_form_no_index_are_refused(
    name: str, values: np.ndarray | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "transitions.npz"
    altered(name, values, path)
    with pytest.raises(BundleError, match=reason):
        TransitionIndex.load(path)


def test_rows_that_do_not_ascend_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "transitions.npz"
    altered("forward_offsets_1", np.array([0, 0, 2, 2, 2]), path)
    TransitionIndex.load(path)  # row 1 = [2, 3] ascends
    with np.load(path) as archive:
        content = {**archive, "forward_neighbours_1": int32(3, 2)}
    np.savez_compressed(path, **content)
    with pytest.raises(BundleError, match="do not ascend"):
        TransitionIndex.load(path)
