"""The networks of a bundle as safetensors files: weights, with the configuration in the metadata."""

from ast import literal_eval
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import BundleError
from models.networks.role_encoder import RoleEncoderConfig
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.sid_mlp import SidMlp, SidMlpConfig, SidMlpPlusPlus, SidMlpPlusPlusConfig
from models.networks.tiger import Tiger, TigerConfig

N = TypeVar("N", bound=nn.Module)


class Networks(NamedTuple):
    """The trained networks; a field is also the name of the file."""

    sasrec: SASRec
    tiger: Tiger
    sid_mlp: SidMlp
    sid_mlp_pp: SidMlpPlusPlus | None = None  # not every bundle has one


def save_networks(networks: Networks, directory: Path) -> None:
    """Write one file a network."""
    for name, network in networks._asdict().items():
        if network is not None:
            save_network(network, directory / f"{name}.safetensors")


def save_network(network: Any, path: Path) -> None:
    """Write a network, which has a `config`, to one file."""
    weights: dict[str, Tensor] = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    save_file(weights, path, metadata={key: str(value) for key, value in asdict(network.config).items()})


def load_networks(directory: Path) -> Networks:
    """Read what `save_networks` wrote.

    Raises:
        BundleError: a file is missing, damaged, or of another network.
    """
    tiger = _load(directory / "tiger.safetensors", lambda values: Tiger(TigerConfig(**values)))
    plus_plus = directory / "sid_mlp_pp.safetensors"
    return Networks(
        sasrec=_load(directory / "sasrec.safetensors", lambda values: SASRec(SASRecConfig(**values))),
        tiger=tiger,
        sid_mlp=_load(directory / "sid_mlp.safetensors", lambda values: SidMlp(tiger.config, SidMlpConfig(**values))),
        sid_mlp_pp=_load(plus_plus, partial(_plus_plus, tiger.config)) if plus_plus.exists() else None,
    )


def _plus_plus(teacher: TigerConfig, values: Mapping[str, Any]) -> SidMlpPlusPlus:
    config = SidMlpPlusPlusConfig(RoleEncoderConfig(**values["encoder"]), SidMlpConfig(**values["student"]))
    return SidMlpPlusPlus(teacher, config)


def _load(path: Path, build: Callable[[dict[str, Any]], N]) -> N:
    try:
        with safe_open(path, framework="pt") as file:
            network = build({key: literal_eval(value) for key, value in (file.metadata() or {}).items()})
            network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 - no mapping
    except Exception as error:  # safetensors raises a type of its own that shares no base but Exception
        raise BundleError(f"{path} must be a checkpoint that this release wrote: {error}") from error
    return network.eval()
