"""The runs of a comparison of variants: each trains TIGER once a seed and makes lists.

A run's checkpoints are in WORK/VARIANT/SEED. A variant that only decodes otherwise has none: it reads the baseline's.
Lists are always in the folder of the variant's own name.
"""

import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from models.networks.beam import TigerBeam
from models.networks.tiger import Tiger, TigerConfig
from training.data.dataset import Dataset, Instances
from training.evaluate import Split
from training.iirg import Iirg, IirgOptions
from training.lists import PROTOCOLS, Protocol
from training.loop import Runtime, total_minutes
from training.pipeline import EMBEDDINGS, Plan, whole
from training.recipes.decoding import decode, stored_lists
from training.recommenders import Workshop, train_tiger
from training.regularization import PLAIN, Regularization

BASELINE = "baseline"
FIRST_STAGE = ("tiger_whole.best.pt", "tiger_whole.pt")
"""Checkpoints of TIGER's first stage; the last one tells that both are there."""

Lists = Mapping[tuple[Split, Protocol], NDArray[np.int64]]
"""Items [users, K] of a run."""


@dataclass(frozen=True)
class Decoding:
    """How the beam search goes through a trained network."""

    width: int | None = None  # beams, and length of the lists; None: the preset's
    renormalised: bool = False  # a softmax over the codes that continue a prefix, not over the vocabulary
    temperature: float = 1.0  # of the softmax

    def search(self, network: Tiger, width: int) -> TigerBeam:
        """A search through a copy of `network`; `width` is the preset's."""
        network = deepcopy(network)
        with torch.no_grad():
            network.decoder.norm.weight.div_(self.temperature)  # the logits are linear in these weights
        return TigerBeam(network, self.width or width, renormalised=self.renormalised)


@dataclass(frozen=True)
class Variant:
    """What a run has beside the recipe of the preset."""

    name: str
    regularization: Regularization = PLAIN
    iirg: IirgOptions | None = None
    network: Mapping[str, Any] = field(default_factory=dict)  # fields of TigerConfig that differ from the preset's
    decoding: Decoding = Decoding()

    @property
    def trained_as(self) -> str:
        """The variant whose training this one has: the baseline's, if only the decoding differs."""
        same = replace(self, name=BASELINE, decoding=Decoding()) == Variant(BASELINE)
        return BASELINE if same else self.name


@dataclass(frozen=True)
class Experiment:
    """What all runs share."""

    dataset: Dataset
    plan: Plan
    codes: NDArray[np.int64]
    subjects: Mapping[Split, Instances]
    console: Console
    started: dict[tuple[Runtime, TigerConfig, bool], Path] = field(default_factory=dict)
    """By what decides the first stage, IIRG's tokens included: the folder of a run that has it."""

    def run(self, variant: Variant, seed: int) -> tuple[Lists, float]:
        """One variant with one seed: its lists, and the minutes that the training behind them took."""
        self.console.print(f"{variant.name}, seed {seed}")
        shop = Workshop(
            self.dataset,
            replace(self.plan.runtime, seed=seed),
            self.plan.work / variant.trained_as / str(seed),
            self.console,
        )
        network, minutes = self._train(shop, variant)
        search = variant.decoding.search(network, self.plan.preset.width)
        folder = self.plan.work / variant.name / str(seed)
        found = {
            (split, protocol): self._lists(shop, search, folder, split, protocol)
            for split in self.subjects
            for protocol in PROTOCOLS
        }
        return found, minutes

    def _train(self, shop: Workshop, variant: Variant) -> tuple[Tiger, float]:
        """The network, and the minutes of all stages."""
        preset = self.plan.preset
        config = replace(preset.tiger, levels=self.codes.shape[1], **variant.network)
        iirg = None
        if variant.iirg:
            iirg = Iirg.of(variant.iirg, shop.sequences, np.load(self.plan.work / EMBEDDINGS))
        self._start(shop, config, variant)
        network, reports = train_tiger(
            shop, self.codes, config, preset.fit_tiger, variant.regularization, iirg, preset.fit_tiger_whole
        )
        return network, total_minutes(reports)

    def _start(self, shop: Workshop, config: TigerConfig, variant: Variant) -> None:
        """Give a run the first stage of one before it with the same network: what else variants have comes after."""
        folder = shop.directory
        before = self.started.setdefault((shop.runtime, config, variant.iirg is not None), folder)
        if before == folder or self.plan.preset.fit_tiger_whole is None or (folder / FIRST_STAGE[-1]).exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name in FIRST_STAGE:
            with whole(folder / name) as partial:
                shutil.copyfile(before / name, partial)

    def _lists(
        self, shop: Workshop, search: TigerBeam, folder: Path, split: Split, protocol: Protocol
    ) -> NDArray[np.int64]:
        """Decode all instances of a split, unless an earlier call has."""
        return stored_lists(
            folder / f"{split}-{protocol}.npy",
            lambda: decode(shop, search, search.tiger.config.max_history, self.codes, split, protocol),
        )
