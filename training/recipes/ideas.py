"""Ideas for TIGER's training, each against the same baseline at an equal budget.

    python -m training.recipes.ideas DATA --out DIR --ideas ema,smoothing=0.05,history,iirg

Choose by the validation table; the test table tells what the choice is worth.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

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
from training.recipes.variant_runs import Variant
from training.recipes.variants import compare, plan
from training.recipes.variants_table import markdown, write
from training.regularization import Regularization

IDEAS: Mapping[str, tuple[float, Callable[[str, float], Variant]]] = {
    "ema": (0.999, lambda name, value: Variant(name, Regularization(ema=value))),
    "smoothing": (0.1, lambda name, value: Variant(name, Regularization(label_smoothing=value))),
    "history": (0.2, lambda name, value: Variant(name, Regularization(history_dropout=value))),
    "collaborative": (1.0, lambda name, value: Variant(name, iirg=IirgOptions(lambda_1=value, lambda_2=0.0))),
    "semantic": (1.0, lambda name, value: Variant(name, iirg=IirgOptions(lambda_1=0.0, lambda_2=value))),
    "iirg": (1.0, lambda name, value: Variant(name, iirg=IirgOptions(lambda_1=value, lambda_2=value))),
}
"""By name: what the number means by default, and the variant of a number."""


def idea(word: str) -> Variant:
    """The variant that NAME or NAME=NUMBER asks for.

    Raises:
        TrainingError: there is no such idea, or the number is none.
    """
    name, _, number = word.partition("=")
    try:
        default, build = IDEAS[name]
        value = float(number) if number else default
    except (KeyError, ValueError):
        raise TrainingError(
            f"an idea must be one of {', '.join(IDEAS)}, or NAME=NUMBER, got {word!r}. Correct --ideas."
        ) from None
    return build(f"{name}={value:g}", value)


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
