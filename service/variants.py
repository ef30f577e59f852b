"""The variants a request can be answered by, and the graphs each of them needs."""

from dataclasses import dataclass
from typing import Literal, get_args

from models.bundle import Manifest

VariantName = Literal[
    "tiger", "sid_mlp", "sid_mlp_pp", "sasrec", "ensemble_tiger", "ensemble_sid_mlp", "ensemble_sid_mlp_pp"
]
VARIANTS: tuple[VariantName, ...] = get_args(VariantName)
SASREC = "sasrec"


@dataclass(frozen=True)
class Variant:
    """Which graphs answer: SASRec, a generative one, or both as an ensemble."""

    name: VariantName
    sasrec: bool
    generative: str | None

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the graphs, SASRec first."""
        return ((SASREC,) if self.sasrec else ()) + ((self.generative,) if self.generative else ())

    @property
    def ensemble(self) -> bool:
        """Whether two lists are fused."""
        return len(self.graphs) == 2


def variant(name: VariantName) -> Variant:
    """The variant of that name."""
    if name == SASREC:
        return Variant(name, sasrec=True, generative=None)
    return Variant(name, sasrec=name.startswith("ensemble_"), generative=name.removeprefix("ensemble_"))


def available(manifest: Manifest) -> dict[str, Variant]:
    """The variants that a bundle has the graphs, and the fitted ensemble, for."""
    found = (variant(name) for name in VARIANTS)
    return {
        entry.name: entry
        for entry in found
        if set(entry.graphs) <= set(manifest.graphs) and (not entry.ensemble or entry.generative in manifest.ensembles)
    }
