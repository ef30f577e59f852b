"""How the rows of an index lie in Redis: what is packed comes back, and what is damaged does not."""

import dataclasses
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from models.bundle import TRANSITIONS, Bundle
from models.transitions import DIRECTIONS, EMPTY_ROW, HOPS, Direction, Row, Rows
from service.index_rows import BUCKETS, Layout, decode_live, decode_rows, encode_live, encode_rows
from service.redis_nodes import SLOTS
from tests.service.redis_parts import Counts, counts_of

MOST = 2**29 - 1


def row_of(distances: tuple[dict[int, int], ...]) -> Row:
    return Row(
        neighbours=tuple(np.array(sorted(found), dtype=np.int32) for found in distances),
        counts=tuple(np.array([found[item] for item in sorted(found)], dtype=np.int32) for found in distances),
    )


row = st.tuples(*[st.dictionaries(st.integers(1, MOST), st.integers(1, 2**20), max_size=5)] * HOPS).map(row_of)
rows = st.builds(Rows, row, row)
seen = st.lists(st.tuples(st.sampled_from(DIRECTIONS), st.integers(1, HOPS), st.integers(1, MOST) | st.integers(1, 3)))


def counts(found: Rows | None) -> Counts:
    assert found is not None
    return counts_of([(7, found)])


@given(rows)
def test_rows_survive_their_packed_value(both: Rows) -> None:
    assert counts(decode_rows(encode_rows(both))) == counts(both)


@given(rows, rows)
def test_rows_add_up(both: Rows, others: Rows) -> None:
    assert counts(both | others) == counts(both) + counts(others)


@given(rows)
def test_a_value_with_an_end_that_is_missing_or_added_is_no_rows(both: Rows) -> None:
    value = encode_rows(both)
    assert [cut for cut in range(len(value)) if decode_rows(value[:cut]) is not None] == []
    assert [size for size in range(1, 9) if decode_rows(value + b"\0" * size) is not None] == []


@pytest.mark.parametrize("length", [-1, -4, 0, 12, 16, 28, 2**31 - 1, -(2**31)])
def test_a_value_whose_first_length_is_wrong_is_no_rows(length: int) -> None:
    value = encode_rows(Rows(row_of(({3: 1}, {}, {}, {})), EMPTY_ROW))
    assert decode_rows(value)
    assert decode_rows(length.to_bytes(4, "little", signed=True) + value[4:]) is None


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0", b"\xff" * 40])
def test_what_was_never_packed_is_no_rows(value: bytes | None) -> None:
    assert decode_rows(value) is None


@given(seen, st.randoms(use_true_random=False))
def test_a_log_in_any_order_counts_what_was_seen(log: list[tuple[Direction, int, int]], random: Random) -> None:
    expected = Counter((direction, 7, hop, neighbour) for direction, hop, neighbour in log)
    random.shuffle(log)
    assert counts(decode_live(b"".join(encode_live(*one) for one in log))) == expected


@given(seen)
def test_the_neighbours_of_a_log_ascend_within_a_distance(log: list[tuple[Direction, int, int]]) -> None:
    rows = decode_live(b"".join(encode_live(*one) for one in log))
    for found in (rows.forward, rows.backward):
        assert all((np.diff(neighbours) > 0).all() for neighbours in found.neighbours)


def test_a_log_that_ends_amid_a_word_counts_the_whole_ones() -> None:
    log = encode_live("backward", 4, MOST) + encode_live("forward", 1, 5)
    assert counts(decode_live(log[:-1])) == Counter({("backward", 7, 4, MOST): 1})


def test_keys_carry_the_version_and_share_no_name(layout: Layout) -> None:
    other = Layout("tiny@2-0123456789ab", layout._index)
    keys = [
        key
        for one in (layout, other)
        for key in (one.loaded, one.lock, *(name(item) for item in range(1, 61) for name in (one.row, one.live)))
    ]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith(f"tandem:{{{layout.version}") for key in keys[: len(keys) // 2])
    assert layout.version.startswith("tiny@1-")


def test_two_bundles_of_one_name_and_version_share_no_keys(layout: Layout, bundle: Bundle) -> None:
    files = bundle.manifest.files
    changed = {**files, TRANSITIONS: files[TRANSITIONS].model_copy(update={"sha256": "f" * 64})}
    other = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"files": changed}))
    assert Layout.of(other).version != layout.version


def test_the_keys_of_an_item_share_a_slot_and_a_version_few(many: Layout) -> None:
    slots = [key_slot(many.row(item).encode()) for item in range(1, many.items + 1)]
    assert slots == [key_slot(many.live(item).encode()) for item in range(1, many.items + 1)]
    share = Counter(slots)
    assert len(share) == BUCKETS
    assert max(share.values()) - min(share.values()) <= 1
    assert max(slots) - min(slots) > SLOTS // 4  # they do not all lie on one node


def test_the_size_is_that_of_all_packed_values(layout: Layout, many: Layout) -> None:
    for one in (layout, many):
        assert one.bytes == sum(len(encode_rows(one.rows(item))) for item in range(1, one.items + 1))
