"""Ideas for TIGER's training and decoding, each against the same baseline at an equal budget.

    python -m training.recipes.ideas DATA --out DIR --ideas ema,smoothing=0.05,history,iirg

Choose by the validation table; the test table tells what the choice is worth.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from models.errors import TrainingError
from training.data.dataset import load_dataset
from training.iirg import IirgOptions
from training.recipes.options import (
    DataArgument,
    DeviceOption,
    EmbedderOption,
    EpochsOption,
    OutOption,
    PresetOption,
    SeedsOption,
)
from training.recipes.variant_runs import Decoding, Variant
from training.recipes.variants import compare, plan
from training.recipes.variants_table import markdown, write
from training.regularization import Regularization


class Idea(NamedTuple):
    """What NAME=NUMBER stands for."""

    default: float  # the number, if none is given
    allowed: Callable[[float], bool]
    build: Callable[[str, float], Variant]  # of the variant's name and the number


def _share(value: float) -> bool:
    return 0 <= value < 1


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _count(value: float) -> bool:
    return value >= 1 and value.is_integer()


IDEAS: Mapping[str, Idea] = {
    "ema": Idea(0.999, _share, lambda name, value: Variant(name, Regularization(ema=value))),
    "smoothing": Idea(0.1, _share, lambda name, value: Variant(name, Regularization(label_smoothing=value))),
    "history": Idea(0.2, _share, lambda name, value: Variant(name, Regularization(history_dropout=value))),
    "dropout": Idea(0.2, _share, lambda name, value: Variant(name, network={"dropout": value})),
    "longer": Idea(40, _count, lambda name, value: Variant(name, network={"max_history": int(value)})),
    "collaborative": Idea(
        1.0, _positive, lambda name, value: Variant(name, iirg=IirgOptions(lambda_1=value, lambda_2=0.0))
    ),
    "semantic": Idea(1.0, _positive, lambda name, value: Variant(name, iirg=IirgOptions(lambda_1=0.0, lambda_2=value))),
    "iirg": Idea(1.0, _positive, lambda name, value: Variant(name, iirg=IirgOptions(lambda_1=value, lambda_2=value))),
    "beams": Idea(100, _count, lambda name, value: Variant(name, decoding=Decoding(width=int(value)))),
    "temperature": Idea(1.5, _positive, lambda name, value: Variant(name, decoding=Decoding(temperature=value))),
    "renormalised": Idea(
        1.0, _positive, lambda name, value: Variant(name, decoding=Decoding(renormalised=True, temperature=value))
    ),
}
"""By name. The last three train nothing: they decode the baseline's network otherwise."""


def idea(word: str) -> Variant:
    """The variant that NAME or NAME=NUMBER asks for.

    Raises:
        TrainingError: there is no such idea, or the number is none that it takes.
    """
    name, _, number = word.partition("=")
    try:
        found = IDEAS[name]
        value = float(number) if number else float(found.default)
    except (KeyError, ValueError):
        raise TrainingError(
            f"an idea must be one of {', '.join(IDEAS)}, or NAME=NUMBER, got {word!r}. Correct --ideas."
        ) from None
    if not found.allowed(value):
        raise TrainingError(f"{name} must have a number that it can work with, got {word!r}. Correct --ideas.")
    # The whole number, as the name is the folder's: two variants must not share one.
    return found.build(f"{name}={repr(value).removesuffix('.0')}", value)


def main(
    data: DataArgument,
    out: OutOption,
    ideas: Annotated[str, typer.Option(help=f"comma-separated NAME or NAME=NUMBER of {', '.join(IDEAS)}")],
    preset: PresetOption = "small",
    epochs: EpochsOption = None,
    seeds: SeedsOption = [0],  # noqa: B006
    embedder: EmbedderOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Run the experiment, or go on with it, and write ideas.json and ideas.md."""
    console = Console()
    variants = [idea(word) for word in ideas.split(",")]
    dataset = load_dataset(data)
    work = out / "work"
    chosen = plan(dataset, preset, epochs, work, embedder, device)
    found = compare(dataset, chosen, variants, seeds, ["valid", "test"], console)
    write(found, markdown(found), out, "ideas", console)


if __name__ == "__main__":
    typer.run(main)
