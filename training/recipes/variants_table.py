"""A comparison of training variants as Markdown and JSON."""

from pathlib import Path

from pydantic import BaseModel
from rich.console import Console

from training.evaluate import Split
from training.lists import PROTOCOLS, Protocol
from training.metrics import Estimate
from training.recipes.variants import ONE_HOP, Comparison, Row
from training.table import short, stages

MEASURES = {"all": "N@10", "MB": "N@10, MB users", "NMB": "N@10, NMB users", ONE_HOP: "one-hop ratio of the top 5"}


def markdown(found: Comparison) -> str:
    """One table a split and protocol. Differences are in units of .0001, the one-hop ratio's too."""
    seeds = ", ".join(str(seed) for seed in found.seeds)
    parts = [f"TIGER on {found.data}, preset `{found.preset}`, {stages(found.epochs)} epochs, seeds {seeds}.\n"]
    for split, protocol in dict.fromkeys((row.split, row.protocol) for row in found.rows):
        parts += [f"## {split}, protocol {protocol}: {PROTOCOLS[protocol]}\n", _table(found, split, protocol)]
    return "\n".join(parts)


def _table(found: Comparison, split: Split, protocol: Protocol) -> str:
    header = ["variant"]
    for label in MEASURES.values():
        header += [label, "− baseline"]
    lines = [f"| {' | '.join(header)} | minutes |", f"| --- |{' ---: |' * len(header)}"]
    for row in found.rows:
        if (row.split, row.protocol) == (split, protocol):
            cells = [row.variant]
            for name in MEASURES:
                cells += [interval(row.values[name]), _difference(row, name)]
            minutes = " ".join(f"{value:g}" for value in found.minutes[row.variant])
            lines.append(f"| {' | '.join(cells)} | {minutes} |")
    return "\n".join(lines) + "\n"


def interval(estimate: Estimate) -> str:
    """A metric below 1 with its interval."""
    value, low, high = map(short, estimate)
    return f"{value} [{low}, {high}]"


def _difference(row: Row, name: str) -> str:
    """The difference with its interval, and what it is of the baseline's value."""
    if name not in row.differences:
        return ""
    value, low, high = (f"{number * 1e4:+.0f}" for number in row.differences[name])
    baseline = row.values[name].value - row.differences[name].value
    share = f", {row.differences[name].value / baseline:+.1%}" if baseline > 0 else ""
    return f"{value} [{low}, {high}]{share}"


def write(found: BaseModel, text: str, folder: Path, name: str, console: Console) -> None:
    """NAME.json, and `text` as NAME.md, in `folder`."""
    (folder / f"{name}.json").write_text(found.model_dump_json(indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    console.print(text, f"wrote {folder / name}.json and .md", markup=False)
