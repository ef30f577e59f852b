"""The report's pictures, one idea each, in the colours of Okabe and Ito: colour-blind readers can tell them apart."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from models.categories import GROUPS
from models.paths import TYPES
from models.transitions import HOPS
from training.metrics import Estimate
from training.report.build import ProtocolReport, Report
from training.report.prefixes import PrefixTable, codes
from training.report.slices import Slice
from training.report.strengths import Strengths
from training.table import LABELS

COLOURS = {"sasrec": "#0072B2", "tiger": "#D55E00", "sid_mlp": "#009E73", "sid_mlp_pp": "#E69F00"}
OTHER = "#999999"
_STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def draw(report: Report, directory: Path) -> None:
    """Write every plot as `NAME.png`, or `NAME_PROTOCOL.png` where it depends on the protocol."""
    name = f"{report.statistics.name}, {report.split}"
    any_protocol = next(iter(report.protocols.values()))
    with rc_context(_STYLE):
        _shares(any_protocol.categories, name, directory / "shares.png")
        _prefixes(report.prefixes_by_category, name, directory / "prefixes.png")
        for protocol, part in report.protocols.items():
            title = f"{name}, {part.masking}"
            for plot in (_groups, _hops, _strengths, _indicators, _differences, _one_hop):
                plot(part, title, directory / f"{plot.__name__[1:]}_{protocol}.png")


@contextmanager
def _figure(path: Path, title: str, size: tuple[float, float]) -> Iterator[Figure]:
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=12)
    yield figure
    figure.savefig(path, dpi=110)


def _shares(categories: Mapping[str, Slice], title: str, path: Path) -> None:
    """How many instances carry each label."""
    with _figure(path, f"Categories of the held-out items: {title}", (8, 6)) as figure:
        axes = figure.subplots()
        labels = list(categories)
        shares = [100 * categories[label].share for label in labels]
        bars = axes.barh(labels, shares, color=["#0072B2" if label in GROUPS else "#56B4E9" for label in labels])
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
        axes.invert_yaxis()
        axes.set_xlabel("% of instances; one instance may have several types, each at its smallest hop")
        axes.grid(axis="x")


def _prefixes(table: PrefixTable, title: str, path: Path) -> None:
    """Of each category, which share has a memorized prefix of how many codes."""
    rows = {label: columns for label, columns in table.items() if sum(columns.values())}
    lengths = list(next(iter(table.values())))
    with _figure(path, f"Longest memorized prefix of the semantic id: {title}", (9, 4.5)) as figure:
        axes = figure.subplots()
        totals = np.array([sum(columns.values()) for columns in rows.values()])
        left = np.zeros(len(rows))
        for shade, length in zip(np.linspace(0.1, 0.95, len(lengths)), lengths, strict=True):
            shares = 100 * np.array([columns[length] for columns in rows.values()]) / totals
            colour = colormaps["viridis"](shade)
            bars = axes.barh(list(rows), shares, left=left, color=colour, label=codes(length))
            names = [f"{share:.0f}" if share >= 4 else "" for share in shares]
            axes.bar_label(bars, names, label_type="center", fontsize=9, color="white" if shade < 0.6 else "black")
            left += shares
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the category's instances")
        figure.legend(loc="outside lower center", ncols=len(lengths))


def _groups(part: ProtocolReport, title: str, path: Path) -> None:
    """N@10 of each single model by group of categories, each group on a scale of its own."""
    with _figure(path, f"Memorization against generalization: {title}", (10, 3.8)) as figure:
        for panel, name in zip(figure.subplots(1, len(GROUPS)), GROUPS, strict=True):
            found = part.categories[name]
            values = list(found.ndcg_at_10.values())
            colours = [_colour(model) for model in found.ndcg_at_10]
            names = [_label(model) for model in found.ndcg_at_10]
            panel.bar(names, [e.value for e in values], yerr=_errors(values), color=colours, capsize=3)
            panel.set_title(f"{name}\n{found.share:.1%} of instances")
            panel.set_ylim(bottom=0)
            panel.grid(axis="y")
        figure.supylabel("NDCG@10, 95 % interval", fontsize=11)


def _hops(part: ProtocolReport, title: str, path: Path) -> None:
    """N@10 of each single model by type of generalization and hop."""
    with _figure(path, f"Generalization by type and hop: {title}", (11, 3.8)) as figure:
        panels = figure.subplots(1, len(TYPES), sharey=True)
        for panel, name in zip(panels, TYPES, strict=True):
            hops = {int(key[-1]): found for key, found in part.categories.items() if key[:-2] == name and found.n}
            by_hop = {hop: found.ndcg_at_10 for hop, found in hops.items()}
            _lines(panel, by_hop)
            panel.set_title(name)
            panel.set_xticks(range(1, HOPS + 1))
            panel.set_xlim(0.6, HOPS + 0.4)
            panel.set_xlabel("smallest hop")
        panels[0].set_ylabel("NDCG@10, 95 % interval")
        panels[-1].legend()


def _strengths(part: ProtocolReport, title: str, path: Path) -> None:
    """Where the generative model beats SASRec among memorized items."""
    count = len(part.strengths)
    with _figure(path, f"NDCG@10 less SASRec's on memorized items: {title}", (1 + 5.5 * count, 4.8)) as figure:
        panels = figure.subplots(1, count, squeeze=False)[0]
        found = [e.value for one in part.strengths.values() for row in one.difference for e in row if e]
        limit = max(map(abs, found), default=1.0) or 1.0
        norm = TwoSlopeNorm(0.0, -limit, limit)
        for panel, (model, one) in zip(panels, part.strengths.items(), strict=True):
            image = _heat(panel, one, norm)
            panel.set_title(f"{_label(model)} − SASRec")
        figure.colorbar(image, ax=panels, label="difference in NDCG@10")


def _heat(panel: Axes, one: Strengths, norm: TwoSlopeNorm) -> Any:
    cells = np.array([[cell.value if cell else np.nan for cell in row] for row in one.difference]).reshape(
        len(one.phi_edges) - 1, len(one.psi_edges) - 1
    )
    image = panel.imshow(cells, cmap="PuOr_r", norm=norm, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if not np.isnan(value):
            ink = "white" if abs(norm(value) - 0.5) > 0.25 else "black"
            text = f"{value:+.3f}\nn = {one.n[row][column]}"
            panel.text(column, row, text, ha="center", va="center", fontsize=9, color=ink)
    panel.set_xticks(range(cells.shape[1]), _ranges(one.psi_edges), fontsize=9)
    panel.set_yticks(range(cells.shape[0]), _ranges(one.phi_edges), fontsize=9)
    panel.set_xlabel("ψ, strength of the prefix transition")
    panel.set_ylabel("φ, strength of the item transition")
    return image


def _ranges(edges: Sequence[float]) -> list[str]:
    return [f"{low:.2g}–{high:.2g}" for low, high in pairwise(edges)]


def _indicators(part: ProtocolReport, title: str, path: Path) -> None:
    """Whether memorization gathers where an indicator is high, and which model wins there."""
    with _figure(path, f"Indicators by quantile: {title}", (1 + 3.2 * len(part.indicators), 6)) as figure:
        panels = figure.subplots(2, len(part.indicators), sharex=True, sharey="row", squeeze=False)
        for (top, bottom), (name, found) in zip(panels.T, part.indicators.items(), strict=True):
            top.bar(range(1, len(found) + 1), [100 * one.memorization for one in found], color="#CC79A7")
            top.set_title(_indicator(name))
            top.grid(axis="y")
            _lines(bottom, {place: one.ndcg_at_10 for place, one in enumerate(found, start=1)})
            bottom.set_xticks(range(1, len(found) + 1))
            bottom.set_xlabel("quantile, lowest first")
        panels[0, 0].set_ylabel("% memorization")
        panels[1, 0].set_ylabel("NDCG@10, 95 % interval")
        panels[1, 0].legend(loc="upper left")


def _indicator(name: str) -> str:
    kind, _, model = name.partition("_")
    return f"{kind} ({_label(model)})" if model else kind


def _differences(part: ProtocolReport, title: str, path: Path) -> None:
    """By how much each ensemble beats what it is compared with."""
    found = part.differences
    with _figure(path, f"Differences in NDCG@10 over the same users: {title}", (11, 1.5 + 0.32 * len(found))) as figure:
        axes = figure.subplots()
        values = list(found.values())
        names = [" − ".join(map(_label, name.split(" - "))) for name in found]
        axes.errorbar([e.value for e in values], names, xerr=_errors(values), fmt="o", color="#0072B2", capsize=3)
        axes.axvline(0, color="black", linewidth=1)
        axes.invert_yaxis()
        axes.set_xlabel("difference, 95 % interval")
        axes.grid(axis="x")


def _one_hop(part: ProtocolReport, title: str, path: Path) -> None:
    """N@10 of users whose target directly followed an item of their history in training, and of the others."""
    rows = list(part.metrics)
    title = f"Users who can benefit from memorization, and the others: {title}"
    with _figure(path, title, (12, 1.5 + 0.32 * len(rows))) as figure:
        panels = figure.subplots(1, len(part.one_hop), sharey=True)
        for panel, (name, found) in zip(panels, part.one_hop.items(), strict=True):
            if found.n:
                values = [found.ndcg_at_10[row] for row in rows]
                colours = [_colour(row) for row in rows]
                panel.barh(list(map(_label, rows)), [e.value for e in values], xerr=_errors(values), color=colours)
            panel.set_title(f"{name}, {found.share:.1%} of users")
            panel.set_xlabel("NDCG@10, 95 % interval")
            panel.locator_params(axis="x", nbins=5)
            panel.grid(axis="x")
        panels[0].invert_yaxis()


def _lines(panel: Axes, found: Mapping[int, Mapping[str, Estimate]]) -> None:
    """One line a model over whole places, dodged so that the intervals do not hide each other."""
    models = list(next(iter(found.values()), {}))
    for number, model in enumerate(models):
        values = [estimates[model] for estimates in found.values()]
        places = np.array(list(found)) + 0.08 * (number - (len(models) - 1) / 2)
        colour = _colour(model)
        panel.errorbar(
            places, [e.value for e in values], _errors(values), fmt="o-", ms=4, color=colour, label=_label(model)
        )
    panel.grid(axis="y")


def _errors(values: Sequence[Estimate]) -> list[list[float]]:
    """Distances from each value to the ends of its interval, as matplotlib wants them."""
    return [[e.value - e.low for e in values], [e.high - e.value for e in values]]


def _label(row: str) -> str:
    return LABELS.get(row, row)


def _colour(row: str) -> str:
    return COLOURS.get(row, OTHER)
