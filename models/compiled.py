"""Compiled loops: what a request does with a few hundred numbers costs the interpreter more than the work itself.

numba compiles such a function when it is first called, and keeps the machine code beside the module or, where that
folder is read-only, in the user's cache folder. It runs without the interpreter's lock, so requests do not wait for it.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers; it must not hold the interpreter's objects."""
    try:
        return cast("Function", numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # there is no folder to keep the code in: it is compiled anew by each process
        return cast("Function", numba.njit(nogil=True)(function))


@compiled
def lower_bound(ascending: Any, value: Any) -> int:
    """The first place in `ascending` [n] whose entry is at least `value`; n where there is none."""
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low
