"""The offline half of the command line: `tandem train`, `evaluate`, `export`, `report`, `categorize` and `demo-data`.

Heavy imports stand inside the commands, so that `tandem --help` and `tandem serve` stay quick.
"""

import json
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from training.data.dataset import Dataset

console = Console(width=None if sys.stdout.isatty() else 150)  # a table in a log file is not cut to 80 columns


DataPath = Annotated[Path, typer.Argument(help="folder or file of interactions; see docs/data.md")]
DataOption = Annotated[Path, typer.Option("--data", help="the data set that the bundle was trained on")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="write the results to this file")]
ReadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--read", metavar="NAME=VALUE", help="how to read the data, repeatable: user_column=uid, min_count=5, …"
    ),
]


class PresetName(StrEnum):
    """Sizes: seconds, a light bundle, fewer epochs, an hour on two cores, the papers' on a GPU."""

    tiny = "tiny"
    demo = "demo"
    brief = "brief"
    small = "small"
    base = "base"


class TokenizerName(StrEnum):
    """What makes codes of item embeddings."""

    rkmeans = "rkmeans"
    rkmeans_balanced = "rkmeans-balanced"
    rqvae = "rqvae"
    opq = "opq"
    fsq = "fsq"


class CollisionsName(StrEnum):
    """What tells items of equal codes apart: one more code, or other last codes."""

    digit = "digit"
    reassign = "reassign"


class SplitName(StrEnum):
    """Which held-out item is the target."""

    valid = "valid"
    test = "test"


class ProtocolName(StrEnum):
    """Whether lists may repeat the history."""

    A = "A"
    B = "B"


class PrecisionName(StrEnum):
    """The exact graphs, the int8 ones, or the int8 ones that lose little."""

    auto = "auto"
    fp32 = "fp32"
    int8 = "int8"


def train(
    data: DataPath,
    name: Annotated[str, typer.Option(help="name of the bundle")],
    preset: Annotated[PresetName, typer.Option(help="sizes and schedules")] = PresetName.small,
    epochs: Annotated[int | None, typer.Option(min=1, help="of TIGER, the longest training; default: preset's")] = None,
    out: Annotated[Path, typer.Option(help="folder of bundles; the result is OUT/NAME/VERSION")] = Path("bundles"),
    work: Annotated[Path | None, typer.Option(help="checkpoints; default runs/NAME")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="discard an unfinished run instead of resuming it")] = False,
    flat: Annotated[bool, typer.Option("--flat", help="write OUT/NAME itself, replacing it, without versions")] = False,
    embedder: Annotated[str | None, typer.Option(help="minilm, tfidf, or the path of a model")] = None,
    tokenizer: Annotated[
        TokenizerName, typer.Option(help="what makes semantic ids; see docs/training.md")
    ] = TokenizerName.rkmeans,
    collisions: Annotated[
        CollisionsName, typer.Option(help="items of equal codes get one more digit, or other last codes")
    ] = CollisionsName.digit,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    bf16: Annotated[
        bool | None, typer.Option("--bf16/--fp32", help="matrix products in training; default: whichever is faster")
    ] = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    iirg: Annotated[bool, typer.Option("--iirg", help="teach TIGER the neighbours of items as well")] = False,
    plus_plus: Annotated[
        bool, typer.Option(help="distil SID-MLP++ too, the fastest model and the longest of the two distillations")
    ] = True,
    read: ReadOption = None,
    json_file: JsonOption = None,
) -> None:
    """Train, distil, export, evaluate and publish a bundle from interactions."""
    from training.distributed import joined
    from training.embeddings import default_embedder
    from training.evaluate import print_results
    from training.loop import Runtime, bf16_pays
    from training.pipeline import Plan, assist, discard
    from training.pipeline import train as run
    from training.presets import PRESETS

    work = work or Path("runs") / name
    sizes = PRESETS[preset]
    if epochs is not None:
        sizes = replace(sizes, fit_tiger=replace(sizes.fit_tiger, epochs=epochs))
    plan = Plan(
        preset=sizes,
        name=name,
        out=out,
        work=work,
        embedder=embedder or default_embedder(),
        runtime=Runtime(device=device, bf16=bf16_pays(device) if bf16 is None else bf16, seed=seed),
        flat=flat,
        tokenizer=tokenizer.value,
        collisions=collisions.value,
        iirg=iirg,
        plus_plus=plus_plus,
    )
    with joined(device) as workers:
        if not workers.main:
            return assist(_load(data, read), plan)
        if fresh:
            discard(work)
        destination, results = run(_load(data, read), plan, console)
    print_results(results, console)
    _write_json(json_file, results.model_dump_json(indent=1))
    console.print(f"published {destination}; serve it: tandem serve --bundle {destination}")


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    data: DataOption,
    split: Annotated[SplitName, typer.Option(help="which held-out item is the target")] = SplitName.test,
    precision: Annotated[PrecisionName, typer.Option(help="which graphs: docs/operations.md")] = PrecisionName.fp32,
    json_file: JsonOption = None,
    read: ReadOption = None,
) -> None:
    """Measure every model and ensemble of a bundle: both protocols, intervals, categories."""
    from models.bundle import Bundle
    from training.evaluate import evaluate as run
    from training.evaluate import print_results

    results = run(Bundle.open(bundle), _load(data, read), split.value, console, precision.value)
    print_results(results, console)
    _write_json(json_file, results.model_dump_json(indent=1))


def fit(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    data: DataOption,
    json_file: JsonOption = None,
    read: ReadOption = None,
) -> None:
    """Fit the ensembles of a bundle again on validation data, and write them and new test results into it."""
    from training.evaluate import print_results
    from training.pipeline import refit

    results = refit(bundle, _load(data, read), console)
    print_results(results, console)
    _write_json(json_file, results.model_dump_json(indent=1))


def export(bundle: Annotated[Path, typer.Argument(help="folder of a bundle")]) -> None:
    """Write the graphs of a bundle again from its checkpoints, after an update of Tandem that made them faster."""
    from training.publish import export_again

    destination, dropped = export_again(bundle)
    console.print(f"exported {destination}")
    if dropped:
        console.print(
            f"the int8 graphs of {', '.join(dropped)} were dropped, as the exact ones have changed; measure new ones: "
            f"tandem quantise {destination} --data DATA"
        )


def strip(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    light: Annotated[
        bool, typer.Option("--light", help="also without SID-MLP++, and without graphs that export and quantise remake")
    ] = False,
) -> None:
    """Remove titles and other attributes of the items from a bundle, to share it without its data set."""
    from training.publish import strip as run

    console.print(
        f"{run(bundle, light=light)} holds ids, semantic ids, weights and statistics, and no attributes of items"
    )


def quantise(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")], data: DataOption, read: ReadOption = None
) -> None:
    """Write the int8 graphs of a bundle again, with what they lose on validation users."""
    from training.pipeline import quantise_again

    console.print(f"quantised {quantise_again(bundle, _load(data, read), console)}")


def categorize(
    data: DataPath,
    split: Annotated[SplitName, typer.Option(help="which held-out item is the target")] = SplitName.test,
    bundle: Annotated[
        Path | None, typer.Option(help="also count memorized prefixes of this bundle's semantic ids")
    ] = None,
    json_file: JsonOption = None,
    read: ReadOption = None,
) -> None:
    """Count how many held-out items are memorization or generalization of training transitions."""
    from models.categories import categorize as run
    from training.index_build import build_index

    dataset = _load(data, read)
    index = build_index(dataset.training_sequences(), dataset.num_items)
    instances = dataset.instances(split.value)
    categories = run(index, instances.histories, instances.targets)
    counts = categories.counts()
    for label, count in counts.items():
        console.print(f"{label:>20} {count:>9,} {count / max(1, counts['n']):>7.2%}")
    found: dict[str, Any] = dict(counts)
    if bundle:
        from models.bundle import Bundle
        from models.prefixes import prefix_transitions
        from models.token_memorization import memorize
        from training.evaluate import check_catalogue
        from training.report.prefixes import prefixes_by_category, print_prefixes

        opened = Bundle.open(bundle)
        check_catalogue(opened, dataset)
        prefixes = prefix_transitions(index, opened.catalogue.codes)
        tokens = memorize(prefixes, instances.histories, instances.targets)
        found["prefixes"] = prefixes_by_category(categories, tokens)
        print_prefixes(found["prefixes"], console)
    _write_json(json_file, json.dumps(found, indent=1))


def report(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="folder for report.md, report.json and the plots")],
    split: Annotated[SplitName, typer.Option(help="which held-out item is the target")] = SplitName.test,
    read: ReadOption = None,
) -> None:
    """Write what a bundle memorizes and generalizes: tables, plots and JSON. Takes minutes, like `evaluate`."""
    from models.bundle import Bundle
    from training.report.build import build
    from training.report.markdown import markdown
    from training.report.plots import draw

    found = build(Bundle.open(bundle), _load(data, read), split.value, console)
    _write_json(out / "report.json", found.model_dump_json(indent=1))
    (out / "report.md").write_text(markdown(found))
    draw(found, out)
    console.print(f"wrote {out / 'report.md'}")


def demo_data(
    out: Annotated[Path, typer.Argument(help="folder to write")],
    items: Annotated[int, typer.Option(help="size of the catalogue")] = 3000,
    users: Annotated[int, typer.Option(help="number of sequences")] = 8000,
    seed: Annotated[int, typer.Option(help="the same seed gives the same files")] = 0,
) -> None:
    """Write the synthetic demo catalogue: items.parquet and interactions.parquet."""
    from training.data.demo import write_demo

    write_demo(out, items=items, users=users, seed=seed)
    console.print(f"wrote {items:,} items and {users:,} users to {out}; train on it: tandem train {out} --name demo")


def table(
    results: Annotated[Path, typer.Argument(help="JSON that `tandem evaluate` or `train` wrote")],
    out: Annotated[Path, typer.Option(help="Markdown file; the chart is written beside it as .png")],
) -> None:
    """Write evaluation results as a Markdown page and a chart."""
    from training.evaluate import Results
    from training.table import markdown, plot

    found = Results.model_validate_json(results.read_text())
    out.write_text(markdown(found))
    plot(found, out.with_suffix(".png"))
    console.print(f"wrote {out} and {out.with_suffix('.png')}")


def compare(
    results: Annotated[list[Path], typer.Argument(help="JSON files that `tandem evaluate` or `train` wrote")],
    protocol: Annotated[ProtocolName, typer.Option(help="A: history not masked; B: masked")] = ProtocolName.B,
) -> None:
    """Print what the ensembles gain on several data sets, as one Markdown table."""
    from training.comparison import comparison
    from training.evaluate import Results

    print(comparison([Results.model_validate_json(path.read_text()) for path in results], protocol.value))


def register(app: typer.Typer) -> None:
    """Add the offline commands to `app`."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(fit)
    app.command()(export)
    app.command()(strip)
    app.command()(quantise)
    app.command()(categorize)
    app.command()(report)
    app.command()(table)
    app.command()(compare)
    app.command("demo-data")(demo_data)


def _load(data: Path, read: list[str] | None) -> "Dataset":
    from training.data.dataset import load_dataset
    from training.data.options import parse_options

    return load_dataset(data, parse_options(read or []))


def _write_json(path: Path | None, text: str) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
