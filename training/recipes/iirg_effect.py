"""What IIRG gives: TIGER with and without its auxiliary tasks, from the same semantic ids at equal epochs.

After arXiv 2606.17276: NDCG@10 of all users, of those that benefit from memorization (MB) and of the others (NMB), and
the one-hop ratio of the top 5, both protocols, test targets.

    python -m training.recipes.iirg_effect DATA --out DIR
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from training.data.dataset import load_dataset
from training.iirg import IirgOptions
from training.recipes.variants import Variant, compare, plan
from training.recipes.variants_table import markdown, write


def main(
    data: Annotated[Path, typer.Argument(help="folder or file of interactions")],
    out: Annotated[Path, typer.Option(help="folder of the results and the checkpoints")],
    preset: Annotated[str, typer.Option(help="network, schedule and semantic ids")] = "small",
    epochs: Annotated[int | None, typer.Option(help="of every run; default: the preset's")] = None,
    seeds: Annotated[list[int], typer.Option("--seed", help="repeatable: a run of each variant a seed")] = [0],  # noqa: B006
    lambda_1: Annotated[float, typer.Option(help="weight of the collaborative task")] = 1.0,
    lambda_2: Annotated[float, typer.Option(help="weight of the semantic task")] = 1.0,
    embedder: Annotated[str | None, typer.Option(help="minilm, tfidf, or the path of a model")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
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
