"""The one dial: `tiny` for tests (seconds), `small` for two CPU cores (hours), `base` for the papers' sizes (a GPU).

`demo` is `small` with narrower networks: the bundle it makes is light enough to be committed. `brief` is `small` with
a shallower TIGER and fewer epochs of it, for data sets of 100,000 interactions and more, whose epochs are as many steps
as several of a small one's.

`base` follows TIGER of arXiv 2603.19809 (its config.yaml) and the students of arXiv 2605.12617; SASRec is the recipe of
the independent Beauty reproduction with full cross-entropy (2 blocks, d 64, 1 head, Adam (.9, .98) at 1e-3), but with
dropout .4 for its .2, by validation.
"""

from dataclasses import dataclass, replace
from typing import Any

from models.networks.role_encoder import RoleEncoderConfig
from models.networks.sasrec import SASRecConfig
from models.networks.sid_mlp import SidMlpConfig
from models.networks.tiger import TigerConfig
from training.iirg import PUBLISHED, IirgOptions
from training.loop import FitOptions
from training.regularization import PLAIN, Regularization
from training.tokenizers.autoencoder import AutoencoderOptions


@dataclass(frozen=True)
class Preset:
    """Sizes and schedules of a whole training run."""

    name: str
    codebooks: int  # levels of the tokenizer; collisions may add one
    codebook_size: int
    restarts: int  # of k-means
    autoencoder: AutoencoderOptions  # of the tokenizers rqvae and fsq
    width: int  # beams and list length
    sasrec: dict[str, Any]  # SASRecConfig without `items`
    tiger: TigerConfig
    sid_mlp: SidMlpConfig  # of SID-MLP, and of SID-MLP++ behind its own encoder
    role_encoder: RoleEncoderConfig
    fit_sasrec: FitOptions
    fit_tiger_whole: FitOptions | None  # TIGER's first stage, over whole sequences
    fit_tiger: FitOptions
    fit_role_encoder: FitOptions  # stage 1 of SID-MLP++
    fit_sid_mlp: FitOptions  # and stage 2
    regularization: Regularization = PLAIN  # of TIGER
    iirg: IirgOptions = PUBLISHED  # where a run asks for it

    @property
    def tiger_epochs(self) -> tuple[int, ...]:
        """Epochs of TIGER's stages, in their order."""
        return tuple(stage.epochs for stage in (self.fit_tiger_whole, self.fit_tiger) if stage)

    def sasrec_config(self, items: int) -> SASRecConfig:
        """SASRec's configuration for a catalogue of `items`."""
        return SASRecConfig(items=items, **self.sasrec)


def _sasrec(epochs: int, patience: int = 10) -> FitOptions:
    return FitOptions(epochs, 256, 1e-3, betas=(0.9, 0.98), cosine=False, patience=patience)


def _whole(epochs: int) -> FitOptions:
    return FitOptions(epochs, 256, 2e-3, weight_decay=0.05, warmup_steps=300, cosine=False, patience=4)


_BASE_TIGER = TigerConfig()

BASE = Preset(
    name="base",
    codebooks=3,
    codebook_size=256,
    restarts=10,
    autoencoder=AutoencoderOptions(hidden=(512, 256, 128), epochs=1000, batch_size=1024),
    width=50,
    sasrec={"d_model": 64, "layers": 2, "heads": 1, "d_ff": 256, "dropout": 0.4, "max_history": 50, "scaled": True},
    tiger=_BASE_TIGER,
    sid_mlp=SidMlpConfig(),
    role_encoder=RoleEncoderConfig(),
    fit_sasrec=_sasrec(100),
    fit_tiger_whole=None,  # the published recipe has prefixes alone
    fit_tiger=FitOptions(150, 256, 3e-3, weight_decay=0.05, warmup_steps=10_000, patience=20),
    fit_role_encoder=FitOptions(300, 512, 1e-3, weight_decay=1e-4, patience=20, evaluate_every=5),
    fit_sid_mlp=FitOptions(300, 512, 5e-4, weight_decay=1e-4, patience=20, evaluate_every=5),
)

SMALL = replace(
    BASE,
    name="small",
    restarts=5,
    autoencoder=AutoencoderOptions(),
    tiger=replace(_BASE_TIGER, d_ff=512, heads=4, d_kv=32, encoder_layers=3, decoder_layers=3),
    sid_mlp=SidMlpConfig(heads=4, head_size=32, d_ff=256, hidden=256, dropout=0.1),
    role_encoder=RoleEncoderConfig(layers=2, hidden=512),
    fit_sasrec=_sasrec(60),
    fit_tiger_whole=_whole(40),
    fit_tiger=FitOptions(14, 128, 1e-3, weight_decay=0.05, warmup_steps=100, patience=4),
    fit_role_encoder=FitOptions(20, 512, 1e-3, weight_decay=1e-4, patience=3, evaluate_every=5),
    fit_sid_mlp=FitOptions(30, 512, 1e-3, weight_decay=1e-4, patience=3, evaluate_every=5),
)

BRIEF = replace(
    SMALL,
    name="brief",
    tiger=replace(SMALL.tiger, encoder_layers=2, decoder_layers=2),
    fit_tiger_whole=_whole(8),
    fit_tiger=replace(SMALL.fit_tiger, epochs=2),
    fit_role_encoder=replace(SMALL.fit_role_encoder, epochs=15),
    fit_sid_mlp=replace(SMALL.fit_sid_mlp, epochs=15),
)

DEMO = replace(
    SMALL,
    name="demo",
    codebook_size=128,
    tiger=TigerConfig(codebook_size=128, d_model=96, d_ff=384, heads=4, d_kv=24, encoder_layers=2, decoder_layers=2),
    sid_mlp=SidMlpConfig(heads=4, head_size=24, d_ff=192, hidden=192, dropout=0.1),
)

TINY = replace(
    SMALL,
    name="tiny",
    codebooks=2,
    codebook_size=64,
    restarts=1,
    autoencoder=AutoencoderOptions(hidden=(64,), latent=16, epochs=30, batch_size=64),
    width=20,
    sasrec={"d_model": 16, "layers": 1, "heads": 1, "d_ff": 32, "dropout": 0.1, "max_history": 20, "scaled": True},
    tiger=TigerConfig(
        levels=3, codebook_size=64, d_model=16, d_ff=32, heads=2, d_kv=8, encoder_layers=1, decoder_layers=1
    ),
    sid_mlp=SidMlpConfig(heads=2, head_size=8, d_ff=32, hidden=32, dropout=0.1),
    role_encoder=RoleEncoderConfig(layers=2, hidden=32),
    fit_sasrec=_sasrec(2),
    fit_tiger_whole=FitOptions(2, 64, 2e-3, cosine=False),
    fit_tiger=FitOptions(2, 64, 2e-3),
    fit_role_encoder=FitOptions(2, 64, 2e-3),
    fit_sid_mlp=FitOptions(2, 64, 2e-3),
)

PRESETS = {preset.name: preset for preset in (TINY, DEMO, BRIEF, SMALL, BASE)}
