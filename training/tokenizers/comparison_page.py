"""The comparison of tokenizers as a table on the terminal, as a Markdown page, and as a picture."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from training.tokenizers.comparison import Candidate, Comparison, Resolved

HEADER = (
    *("", "collisions", "distinct", "largest group", "error", "entropy, bits", "utilization"),
    *("title overlap, 1 code", "2 codes", "reassign: moved", "error"),
)
BARS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00")  # Okabe and Ito: colour-blind readers can tell them apart


def table(found: Comparison) -> Table:
    """All measurements, and how long each tokenizer took."""
    grid = Table(title=_title(found))
    for column in (*HEADER, "seconds"):
        grid.add_column(column, justify="right")
    for row, candidate in zip(_rows(found), found.candidates, strict=True):
        grid.add_row(*row, f"{candidate.seconds:.1f}")
    return grid


def markdown(found: Comparison, picture: str) -> str:
    """The page; it expects the picture of `draw` in its own folder, under the given name."""
    items = found.candidates[0].codes.items
    lines = [f"| {' | '.join(HEADER)} |", f"| --- |{' ---: |' * (len(HEADER) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(found)]
    notes = [
        f"- {candidate.name}, {way}: {resolved}"
        for candidate in found.candidates
        for way, resolved in candidate.collisions.items()
        if isinstance(resolved, str)
    ]
    parts = [
        f"# Tokenizers on {found.data}\n",
        f"{items:,} items, embedder {found.embedder} ({found.dimensions} dimensions), {found.levels} levels of "
        f"{found.codebook_size} codes, seed {found.seed}. Made by `tandem tokenizer compare`.\n",
        "\n".join(lines) + "\n",
        "- *collisions*: the share of items that share all codes with another, before anything is done about it; "
        "*distinct*: different ids; *largest group*: the most items on one id.",
        "- *error*: what the codes leave unexplained of the variance of the embeddings.",
        "- *entropy*, *utilization*: level by level; the most is "
        f"{math.log2(found.codebook_size):.2f} bits, and all codes in use"
        f"{''.join(f' ({c.name} has {c.codebook_size})' for c in found.candidates if _smaller(c, found))}.",
        "- *title overlap*: shared words / all words of the titles of two items with the same first codes, a mean over "
        f"random pairs. Two items at random: {found.random_overlap:.3f}.",
        "- *reassign*: the share of items that get another last code when collisions are resolved without a digit, "
        "and the error after it.",
        *notes,
        f"\n![The same, drawn]({picture})",
    ]
    return "\n".join(parts) + "\n"


def draw(found: Comparison, path: Path) -> None:
    """Six panels, one bar or group of bars a tokenizer."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    figure.suptitle(_title(found), fontsize=12)
    panels = figure.subplots(2, 3).flatten()
    candidates = found.candidates
    reports = [candidate.codes for candidate in candidates]
    reassigned = [candidate.collisions["reassign"] for candidate in candidates]
    levels = [f"level {level}" for level in range(1, found.levels + 1)]
    _bars(panels[0], "share of items that collide", [[r.collision_rate for r in reports]], [], candidates)
    _bars(panels[1], "reconstruction error", [[r.reconstruction_error for r in reports]], [], candidates)
    overlaps = {f"same {'code' if n == 1 else f'{n} codes'}": n for n in candidates[0].overlap}
    values = [[candidate.overlap[n] or 0.0 for candidate in candidates] for n in overlaps.values()]
    _bars(panels[2], "overlap of title words", values, list(overlaps), candidates)
    panels[2].axhline(found.random_overlap, color="black", linewidth=1, linestyle="--", label="random pairs")
    entropies = [[r.levels[level].entropy_bits for r in reports] for level in range(found.levels)]
    _bars(panels[3], "entropy, bits", entropies, levels, candidates)
    panels[3].axhline(math.log2(found.codebook_size), color="black", linewidth=1, linestyle="--", label="evenly used")
    used = [[r.levels[level].utilization for r in reports] for level in range(found.levels)]
    _bars(panels[4], "share of codes in use", used, levels, candidates)
    panels[4].set_yticks([0, 0.25, 0.5, 0.75, 1])
    moved = [r.moved if isinstance(r, Resolved) else math.nan for r in reassigned]
    _bars(panels[5], "share of items moved by reassign", [moved], [], candidates)
    for panel in (panels[2], panels[3], panels[4]):
        panel.margins(y=0.3)
        panel.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")
    figure.savefig(path, dpi=110)


def _bars(
    panel: Axes, title: str, series: Sequence[Sequence[float]], labels: Sequence[str], candidates: Sequence[Candidate]
) -> None:
    """Groups of bars, one a candidate, with one bar of each series."""
    width = 0.8 / len(series)
    for number, values in enumerate(series):
        places = [place + (number - (len(series) - 1) / 2) * width for place in range(len(candidates))]
        colour = BARS[number % len(BARS)]
        panel.bar(places, values, 0.92 * width, color=colour, label=labels[number] if labels else None)
        if len(series) == 1:
            for place, value in zip(places, values, strict=True):
                text = "impossible" if math.isnan(value) else f"{value:.3f}"
                panel.annotate(text, (place, np.nan_to_num(value)), ha="center", va="bottom", fontsize=8)
    panel.set_title(title, fontsize=11)
    panel.set_xlim(-0.6, len(candidates) - 0.4)
    panel.set_xticks(range(len(candidates)), [c.name.replace("-", "\n") for c in candidates], fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_axisbelow(True)
    panel.grid(axis="y", alpha=0.3)


def _rows(found: Comparison) -> Iterator[list[str]]:
    for candidate in found.candidates:
        codes, reassigned = candidate.codes, candidate.collisions["reassign"]
        if isinstance(reassigned, Resolved):
            last = [f"{reassigned.moved:.1%}", f"{reassigned.reconstruction_error:.3f}"]
        else:
            last = ["impossible", ""]
        yield [
            candidate.name,
            f"{codes.collision_rate:.1%}",
            f"{codes.unique:,}",
            f"{codes.largest_group:,}",
            f"{codes.reconstruction_error:.3f}",
            " / ".join(f"{level.entropy_bits:.2f}" for level in codes.levels),
            " / ".join(f"{level.utilization:.0%}" for level in codes.levels),
            *(_overlap(candidate.overlap.get(length)) for length in (1, 2)),
            *last,
        ]


def _smaller(candidate: Candidate, found: Comparison) -> bool:
    """Whether the tokenizer has no such number of codes as was asked for."""
    return candidate.codebook_size < found.codebook_size


def _overlap(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _title(found: Comparison) -> str:
    return f"{found.data}, {found.embedder}: {found.levels} levels of {found.codebook_size} codes"
