"""The command-line options that recipes share."""

from pathlib import Path
from typing import Annotated

import typer

DataArgument = Annotated[Path, typer.Argument(help="folder or file of interactions")]
OutOption = Annotated[Path, typer.Option(help="folder of the results and the checkpoints")]
PresetOption = Annotated[str, typer.Option(help="networks, schedules and semantic ids")]
EpochsOption = Annotated[int | None, typer.Option(help="of TIGER's last stage; default: the preset's")]
SeedsOption = Annotated[list[int], typer.Option("--seed", help="repeatable: a run of each variant a seed")]
EmbedderOption = Annotated[str | None, typer.Option(help="minilm, tfidf, or the path of a model")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda")]
