"""A typed `nn.ModuleList`: torch's own forgets what it holds."""

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


def stack(modules: Iterable[M]) -> Sequence[M]:
    """Modules that are registered like a `ModuleList` and typed as what they are."""
    return cast("Sequence[M]", nn.ModuleList(modules))
