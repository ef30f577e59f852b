"""Trains the recommenders: SASRec, TIGER, and from TIGER its students SID-MLP and SID-MLP++."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from models.networks.beam import TigerBeam
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.sid_mlp import (
    Reader,
    SidMlp,
    SidMlpBeam,
    SidMlpConfig,
    SidMlpPlusPlus,
    SidMlpPlusPlusConfig,
)
from models.networks.tiger import Tiger, TigerConfig
from training.batches import PrefixExamples, SequenceBatch, sequence_batches
from training.data.dataset import Dataset
from training.distillation import Distillation, TeacherStates
from training.distributed import Workers
from training.iirg import TASKS, Iirg, Pairs
from training.loop import FitOptions, FitReport, Runtime, fit
from training.regularization import PLAIN, Regularization, drop_items, smoothed_loss
from training.role_distillation import StateMatching, explained_variance
from training.validation import beam_validator, sample, sasrec_validator
from training.whole_sequences import Windows, likelihood_validator, whole_loss

VALIDATION_BEAMS = 20


@dataclass(frozen=True)
class Workshop:
    """What every training run shares."""

    dataset: Dataset
    runtime: Runtime
    directory: Path  # checkpoints
    console: Console

    @property
    def sequences(self) -> Sequence[NDArray[np.int32]]:
        """Training sequences: without each user's last two items."""
        return self.dataset.training_sequences()


def train_sasrec(shop: Workshop, config: SASRecConfig, options: FitOptions) -> tuple[SASRec, FitReport]:
    """SASRec with full-softmax cross-entropy at every position."""
    device = shop.runtime.device
    torch.manual_seed(shop.runtime.seed)
    network = SASRec(config).to(device)
    sequences = shop.sequences

    def loss(batch: SequenceBatch) -> Tensor:
        parts = [(history.to(device), targets.to(device)) for history, targets in batch]
        hidden = torch.cat([network.hidden(history)[targets > 0] for history, targets in parts])
        items = torch.cat([targets[targets > 0] for _, targets in parts])
        return F.cross_entropy(network.logits(hidden).float(), items - 1)

    report = fit(
        "sasrec",
        network,
        options,
        shop.runtime,
        epoch_batches=lambda random: sequence_batches(sequences, config.max_history, options.batch_size, random),
        loss=loss,
        validate=sasrec_validator(network, shop.dataset.instances("valid"), device),
        directory=shop.directory,
        console=shop.console,
    )
    return network.cpu(), report


def train_tiger(
    shop: Workshop,
    codes: NDArray[np.int64],
    config: TigerConfig,
    options: FitOptions,
    regularization: Regularization = PLAIN,
    iirg: Iirg | None = None,
    fit_whole: FitOptions | None = None,
) -> tuple[Tiger, Sequence[FitReport]]:
    """TIGER on every prefix of the training sequences; `codes` are semantic ids [N + 1, D].

    With `fit_whole`, a first stage learns from whole sequences; there is a report a stage. With `iirg`, the network has
    the tokens of the auxiliary tasks, and learns them with the prefixes. Of several processes that `torchrun` started,
    all must call this.
    """
    device = shop.runtime.device
    torch.manual_seed(shop.runtime.seed)
    network = Tiger(replace(config, tasks=TASKS) if iirg else config).to(device)
    item_codes = torch.from_numpy(codes).to(device)
    first = [start_whole(shop, network, item_codes, fit_whole)] if fit_whole else []
    examples = PrefixExamples.of(shop.sequences, config.max_history)

    def epoch_batches(random: np.random.Generator) -> list[tuple[NDArray[np.int64], Pairs | None]]:
        batches = examples.epoch(options.batch_size, random)
        return [(rows, iirg.draw(random, len(rows)) if iirg else None) for rows in batches]

    def loss(batch: tuple[NDArray[np.int64], Pairs | None]) -> Tensor:
        rows, pairs = batch
        history, targets = (tensor.to(device) for tensor in examples.take(rows))
        history = drop_items(history, regularization.history_dropout)
        logits = network(history, targets, item_codes).float()
        main = smoothed_loss(network, logits, item_codes[targets], regularization.label_smoothing)
        return main if iirg is None or pairs is None else main + iirg.loss(network, item_codes, pairs)

    def share(
        batch: tuple[NDArray[np.int64], Pairs | None], workers: Workers
    ) -> tuple[tuple[NDArray[np.int64], Pairs | None], float]:
        rows, pairs = batch
        part, weight = workers.share(rows)
        return (part, pairs), weight  # every process takes all pairs: they are few, and their weights add up to 1

    extras: dict[str, object] = {name: value for name, value in asdict(regularization).items() if value}
    if iirg:
        extras["iirg"] = asdict(iirg.options)
    instances = sample(shop.dataset.instances("valid"), shop.runtime.seed)
    report = fit(
        "tiger",
        network,
        options,
        shop.runtime,
        epoch_batches=epoch_batches,
        loss=loss,
        validate=beam_validator(TigerBeam(network, VALIDATION_BEAMS), config.max_history, item_codes, instances),
        directory=shop.directory,
        console=shop.console,
        ema=regularization.ema,
        extras=extras,
        share=share,
    )
    return network.cpu(), (*first, report)


def start_whole(shop: Workshop, network: Tiger, item_codes: Tensor, options: FitOptions) -> FitReport:
    """The first stage of TIGER: whole sequences in one pass each, for a fraction of the time of their prefixes."""
    device, longest = shop.runtime.device, network.config.max_history
    windows = Windows.of(shop.sequences, longest)

    def loss(batch: NDArray[np.int64]) -> Tensor:
        items, wanted = (tensor.to(device) for tensor in windows.take(batch))
        return whole_loss(network, items, wanted, item_codes)

    def share(batch: NDArray[np.int64], workers: Workers) -> tuple[NDArray[np.int64], float]:
        part, weight = workers.share(batch)
        return part, weight and windows.counts[part].sum() / windows.counts[batch].sum()  # a mean over targets

    return fit(
        "tiger_whole",
        network,
        options,
        shop.runtime,
        epoch_batches=lambda random: windows.epoch(options.batch_size, random),
        loss=loss,
        validate=likelihood_validator(network, sample(shop.dataset.instances("valid"), shop.runtime.seed), item_codes),
        directory=shop.directory,
        console=shop.console,
        metric="log-likelihood",
        share=share,
    )


def distil_sid_mlp(
    shop: Workshop, teacher: Tiger, codes: NDArray[np.int64], config: SidMlpConfig, options: FitOptions
) -> tuple[SidMlp, FitReport]:
    """SID-MLP from a trained TIGER (METHODS of arXiv 2605.12617: KL to the teacher's logits plus cross-entropy)."""
    device = shop.runtime.device
    torch.manual_seed(shop.runtime.seed)
    teacher = teacher.to(device).eval()
    student = SidMlp(teacher.config, config).to(device)
    item_codes = torch.from_numpy(codes).to(device)
    examples = PrefixExamples.of(shop.sequences, teacher.config.max_history)
    states = TeacherStates.extract(teacher, examples, item_codes, shop.runtime, shop.console)
    distillation = Distillation(teacher, student, states)
    report = _fit_student(shop, "sid_mlp", teacher.encoder, distillation, examples, item_codes, options)
    teacher.cpu()
    return student.cpu(), report


def distil_sid_mlp_pp(
    shop: Workshop,
    teacher: Tiger,
    codes: NDArray[np.int64],
    config: SidMlpPlusPlusConfig,
    fit_encoder: FitOptions,
    fit_student: FitOptions,
) -> tuple[SidMlpPlusPlus, tuple[FitReport, FitReport]]:
    """SID-MLP++ from a trained TIGER, in the paper's two stages.

    First the role-wise encoder learns the states of the teacher's; then it is frozen, and a SID-MLP learns the
    teacher's logits from its states. The reports are of these two stages.
    """
    device = shop.runtime.device
    torch.manual_seed(shop.runtime.seed)
    teacher = teacher.to(device).eval()
    network = SidMlpPlusPlus(teacher.config, config).to(device)
    encoder = network.encoder
    encoder.start_from(teacher.encoder)
    item_codes = torch.from_numpy(codes).to(device)
    examples = PrefixExamples.of(shop.sequences, teacher.config.max_history)
    states = TeacherStates.extract(teacher, examples, item_codes, shop.runtime, shop.console)
    instances = sample(shop.dataset.instances("valid"), shop.runtime.seed)
    encoder_report = fit(
        "sid_mlp_pp_encoder",
        encoder,
        fit_encoder,
        shop.runtime,
        epoch_batches=lambda random: examples.epoch(fit_encoder.batch_size, random),
        loss=StateMatching(encoder, states, examples, item_codes).loss,
        validate=explained_variance(encoder, teacher, item_codes, instances),
        directory=shop.directory,
        console=shop.console,
        metric="R²",
    )
    states = states.read_by(encoder, examples, item_codes, shop.runtime, shop.console)
    distillation = Distillation(teacher, network.student, states)
    report = _fit_student(shop, "sid_mlp_pp", encoder, distillation, examples, item_codes, fit_student)
    teacher.cpu()
    return network.cpu(), (encoder_report, report)


def _fit_student(
    shop: Workshop,
    name: str,
    encoder: Reader,
    distillation: Distillation,
    examples: PrefixExamples,
    item_codes: Tensor,
    options: FitOptions,
) -> FitReport:
    """Train the student of `distillation`, whose states are those of `encoder`."""
    student, instances = distillation.student, sample(shop.dataset.instances("valid"), shop.runtime.seed)

    def validate() -> float:
        search = SidMlpBeam(encoder, student, VALIDATION_BEAMS).eval()
        return beam_validator(search, examples.longest, item_codes, instances)()

    return fit(
        name,
        student,
        options,
        shop.runtime,
        epoch_batches=lambda random: examples.epoch(options.batch_size, random),
        loss=distillation.loss,
        validate=validate,
        directory=shop.directory,
        console=shop.console,
    )
