"""What IIRG gives: TIGER with and without its auxiliary tasks, from the same semantic ids at equal epochs.

After arXiv 2606.17276: NDCG@10 of all users, of those that benefit from memorization (MB) and of the others (NMB), and
the one-hop ratio of the top 5, both protocols, test targets.

    python -m training.recipes.iirg_effect DATA --out DIR
"""

from typing import Annotated

import typer
from rich.console import Console

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


def main(
    data: DataArgument,
    out: OutOption,
    preset: PresetOption = "small",
    epochs: EpochsOption = None,
    seeds: SeedsOption = [0],  # noqa: B006
    lambda_1: Annotated[float, typer.Option(help="weight of the collaborative task")] = 1.0,
    lambda_2: Annotated[float, typer.Option(help="weight of the semantic task")] = 1.0,
    embedder: EmbedderOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Run the experiment, or go on with it, and write iirg.json and iirg.md."""
    console = Console()
    dataset = load_dataset(data)
    work = out / "work"
    options = IirgOptions(lambda_1=lambda_1, lambda_2=lambda_2)
    variants = [Variant(f"IIRG {lambda_1:g} {lambda_2:g}", iirg=options)]
    found = compare(dataset, plan(dataset, preset, epochs, work, embedder, device), variants, seeds, ["test"], console)
    write(found, markdown(found), out, "iirg", console)


if __name__ == "__main__":
    typer.run(main)
