"""Which variant a user gets: a stateless, deterministic split.

The hash is GrowthBook's version 2 (bit for bit that of its Python SDK), so that assignments can be recomputed, or taken
over, by that tool. The shares divide [0, 1) in the order in which they are given: keep it when you change them.
"""

from collections.abc import Mapping

_BUCKETS = 10_000


def fnv1a32(text: str) -> int:
    """The 32-bit FNV-1a hash over code points, as GrowthBook computes it."""
    value = 0x811C9DC5
    for character in text:
        value = ((value ^ ord(character)) * 0x01000193) % 2**32
    return value


def unit_interval(salt: str, unit: str) -> float:
    """Where `unit` lies in [0, 1) under `salt`, in steps of 1/10,000."""
    return fnv1a32(str(fnv1a32(salt + unit))) % _BUCKETS / _BUCKETS


def assign(weights: Mapping[str, float], salt: str, unit: str) -> str:
    """The variant of `unit`: the one whose share of [0, 1) its hash falls into."""
    position = unit_interval(salt, unit)
    end = 0.0
    for name, share in weights.items():
        end += share
        if position < end:
            return name
    # The shares sum to 1 only up to rounding: what remains belongs to the last variant with a share.
    return [name for name, share in weights.items() if share > 0.0][-1]
