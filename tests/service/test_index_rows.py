"""Rows and logs as packed values, and the keys that they lie behind."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from models.bundle import Bundle
from models.transitions import DIRECTIONS, HOPS, Row, TransitionIndex
from service.index_rows import BUCKETS, Layout, Rows, decode_live, decode_rows, encode_live, encode_rows
from tests.service.redis_parts import counts_of

hops = st.lists(st.dictionaries(st.integers(1, 2**29 - 1), st.integers(1, 2**31 - 1)), min_size=HOPS, max_size=HOPS)


def row(parts: list[dict[int, int]]) -> Row:
    ordered = [sorted(part.items()) for part in parts]
    return Row(*(tuple(np.array([entry[at] for entry in part], dtype=np.int32) for part in ordered) for at in range(2)))


def plain(rows: Rows) -> list[list[list[int]]]:
    return [[part.tolist() for parts in (row.neighbours, row.counts) for part in parts] for row in rows]


@given(hops, hops)
def test_rows_survive_packing(forward: list[dict[int, int]], backward: list[dict[int, int]]) -> None:
    rows = Rows(row(forward), row(backward))
    value = encode_rows(rows)
    assert len(value) == 4 + 2 * 4 * HOPS + 8 * sum(map(len, [*forward, *backward]))
    decoded = decode_rows(value)
    assert decoded is not None
    assert plain(decoded) == plain(rows)


def test_what_is_not_whole_is_not_decoded(layout: Layout) -> None:
    value = encode_rows(layout.rows(1))
    assert decode_rows(None) is None
    assert [length for length in range(len(value)) if decode_rows(value[:length])] == []
    assert decode_rows(value + b"\0") is None


@given(st.lists(st.tuples(st.sampled_from(DIRECTIONS), st.integers(1, HOPS), st.integers(1, 2**29 - 1))), st.randoms())
def test_a_log_counts_its_transitions_in_any_order(seen: list[tuple], shuffle: random.Random) -> None:
    expected = Counter((direction, 7, hop, neighbour) for direction, hop, neighbour in seen)
    shuffle.shuffle(seen)
    assert counts_of([(7, decode_live(b"".join(encode_live(*transition) for transition in seen)))]) == expected


def test_the_last_word_of_a_log_may_be_cut_off() -> None:
    whole = encode_live("forward", 2, 5)
    assert counts_of([(1, decode_live(whole + whole[:3]))]) == {("forward", 1, 2, 5): 1}


def test_the_size_of_all_values_is_known_before_they_are_made(layout: Layout) -> None:
    assert layout.bytes == sum(len(encode_rows(layout.rows(item))) for item in range(1, layout.items + 1))


def test_an_items_keys_share_a_slot_and_a_version_spreads_over_few(layout: Layout) -> None:
    slots = [key_slot(layout.row(item).encode()) for item in range(1, layout.items + 1)]
    assert slots == [key_slot(layout.live(item).encode()) for item in range(1, layout.items + 1)]
    assert len(set(slots)) == BUCKETS
    assert key_slot(layout.loaded.encode()) == key_slot(layout.lock.encode())


def test_another_index_has_other_keys(bundle: Bundle, layout: Layout) -> None:
    files = {name: entry.model_copy(update={"sha256": "0" * 64}) for name, entry in bundle.manifest.files.items()}
    other = Layout.of(Bundle(**{**vars(bundle), "manifest": bundle.manifest.model_copy(update={"files": files})}))
    assert {other.row(1), other.live(1), other.loaded} & {layout.row(1), layout.live(1), layout.loaded} == set()
    assert layout.version.startswith(f"{bundle.identity}-")


@pytest.mark.parametrize("item", [1, 60])
def test_rows_are_those_of_the_index(layout: Layout, bundle: Bundle, item: int) -> None:
    index: TransitionIndex = bundle.transitions
    assert plain(layout.rows(item)) == plain(Rows(index.row("forward", item), index.row("backward", item)))
