"""The commands `tandem index build` and `tandem index update`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.cli import DataPath, ReadOption, console

if TYPE_CHECKING:
    from models.transitions import TransitionIndex
    from training.index_jobs import Resources


class EngineName(StrEnum):
    """What counts the transitions."""

    duckdb = "duckdb"
    spark = "spark"


OutOption = Annotated[
    Path, typer.Option(metavar="NAME.npz", help="the index; NAME.items.parquet and NAME.tails.parquet go beside it")
]
EngineOption = Annotated[EngineName, typer.Option(help="what counts; spark needs its extra and Java")]
MemoryOption = Annotated[
    float, typer.Option("--memory-limit", metavar="GIB", min=0.25, help="memory of the engine; more goes to disk")
]


def build(
    events: DataPath,
    out: OutOption,
    engine: EngineOption = EngineName.duckdb,
    memory: MemoryOption = 2.0,
    all_events: Annotated[
        bool, typer.Option("--all-events", help="the last two events of each user too, else held out")
    ] = False,
    read: ReadOption = None,
) -> None:
    """Count the transitions of training events, and write them as a bundle holds them."""
    from training.data.options import parse_options
    from training.index_jobs import build as run

    resources = _resources(engine, memory)
    _report(run(events, parse_options(read or []), out, resources, console, all_events=all_events), out)


def update(
    index: Annotated[Path, typer.Argument(metavar="NAME.npz", help="index that `tandem index build` or this wrote")],
    events: Annotated[Path, typer.Argument(help="new events only, of the same columns as those of the index")],
    out: OutOption,
    engine: EngineOption = EngineName.duckdb,
    memory: MemoryOption = 2.0,
    read: ReadOption = None,
) -> None:
    """Add new events to an index: the result equals a build of all events together."""
    from training.data.options import parse_options
    from training.index_jobs import update as run

    _report(run(events, parse_options(read or []), index, out, _resources(engine, memory), console), out)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`, under `index`."""
    index = typer.Typer(help="Build the transition index from events, or update it.", no_args_is_help=True)
    index.command()(build)
    index.command()(update)
    app.add_typer(index, name="index")


def _resources(engine: EngineName, memory_gib: float) -> "Resources":
    from training.index_jobs import Resources

    return Resources(engine.value, memory_mib=int(memory_gib * 1024))


def _report(index: "TransitionIndex", out: Path) -> None:
    transitions = sum(map(len, index.forward.neighbours))
    console.print(f"wrote {out}: {transitions:,} transitions between {index.num_items:,} items")
