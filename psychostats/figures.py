"""The one style of all figures: columns made safe to plot, colours, rows, panels, and files with lasting bytes.

In: tidy tables and plotnine figures.  Out: layers to add to a figure, and SVG files.  Knows nothing of what the
numbers mean; sets no global option.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotnine

from psychostats.errors import InputError
from psychostats.lettering import drawable

p9: Any = plotnine  # plotnine is typed only in part

WIDTH_MM = 160.0
"""Width of a figure that fills the text column of an A4 page."""

MM = 1 / 25.4  # in inches
FONT = "DejaVu Sans"  # ships with matplotlib, so figures are the same on every machine
# Okabe and Ito (2008), in an order that keeps the first two, local and distributed, the furthest apart.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
GREYS = ("#222222", "#8A8A8A", "#555555", "#B4B4B4")
LINES = ("solid", "dashed", "dotted", "dashdot")
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, FAINT, GRID, BAND = "#222222", "#6B6B6B", "#E2E2E2", "#EDEDED"
VERTICAL = {"ymin": "conf_low", "ymax": "conf_high"}
HORIZONTAL = {"x": "conf_low", "xend": "conf_high", "yend": "row"}
IN_GIVEN_ORDER = ("experiment", "label", "kind", "term")  # other text without declared order is sorted
ALARM = "#AA3377"  # what needs attention; the colour of no level


def save_figure(
    plot: plotnine.ggplot,
    stem: Path | str,
    *,
    width_mm: float = WIDTH_MM,
    height_mm: float | None = None,
    png: bool = False,
) -> Path:
    """Write a figure as SVG, letters as paths, and return its path; the same figure gives the same bytes.

    Parameters
    ----------
    plot
        A figure of `psychostats.plots`.
    stem
        Path without suffix; its folder must exist.
    width_mm, height_mm
        Size; without a height, the one the figure was laid out for.
    png
        Write a PNG of 200 dots an inch beside it.

    Raises
    ------
    InputError
        If the folder does not exist.
    """
    stem = Path(stem)
    if not stem.parent.is_dir():
        raise InputError(f"the folder {stem.parent} for figure '{stem.name}' does not exist.")
    height = height_mm if height_mm is not None else plot.theme.getp("figure_size")[1] / MM
    formats: dict[str, dict[str, Any]] = {"svg": {"Date": None, "Creator": None}}
    if png:
        formats["png"] = {"Software": None}
    # The context starts from matplotlib's defaults: neither a user's matplotlibrc nor an earlier figure shows.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "psychostats", "svg.fonttype": "path", "text.parse_math": False})
        size: dict[str, Any] = {"width": width_mm, "height": height, "units": "mm", "dpi": 200}
        # Drawn once, whatever the number of formats: laying out takes longer than writing.
        figure = plot.save_helper(io.BytesIO(), limitsize=False, verbose=False, **size).figure
        mpl.rcParams.update(plot.theme.rcParams)
        for suffix, metadata in formats.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, metadata=metadata)
            target = stem.with_name(f"{stem.name}.{suffix}")
            partial = target.with_name(f".{target.name}.partial")
            partial.write_bytes(buffer.getvalue())
            partial.replace(target)
    return stem.with_name(f"{stem.name}.svg")


def require(frame: pd.DataFrame, name: str, columns: Iterable[str]) -> None:
    """Refuse a table without rows, or without one of `columns`."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(
            f"the table '{name}' to draw lacks the column '{missing[0]}'; it has {', '.join(map(str, frame))}."
        )
    if frame.empty:
        raise InputError(f"the table '{name}' to draw has no rows.")


def tidy(
    frame: pd.DataFrame,
    name: str,
    texts: Mapping[str, str],
    numbers: Sequence[str],
    *,
    scale: Mapping[str, str] | None = None,
    like: pd.DataFrame | None = None,
    wrap: int = 18,
) -> pd.DataFrame:
    """Copy the needed columns under fixed names, since plotnine evaluates column names as code.

    `texts` and `scale` map new names to old ones; texts become categories whose labels can be drawn, in declared
    order, else sorted, following the order of `like` where that has them.
    """
    columns = {number: number for number in numbers} | dict(scale or {})
    require(frame, name, [*texts.values(), *columns.values()])
    out = pd.DataFrame({new: pd.to_numeric(frame[old]).astype(float) for new, old in columns.items()})
    for new, old in texts.items():
        column = frame[old]
        if isinstance(column.dtype, pd.CategoricalDtype):
            found = list(column.cat.remove_unused_categories().cat.categories)
        elif new in IN_GIVEN_ORDER:
            found = list(column.unique())
        else:
            found = sorted(column.unique(), key=lambda x: (isinstance(x, str), x))
        labels = {level: label_of(level, wrap) for level in found}
        if len(set(labels.values())) < len(labels):  # names that differ only in white space
            labels = {level: repr(level) for level in found}
        earlier: Iterable[str] = [] if like is None or new not in like else like[new].cat.categories
        order = dict.fromkeys([*earlier, *labels.values()])
        out[new] = pd.Categorical(column.map(labels).astype(object), list(order), ordered=True)
    return out.reset_index(drop=True)


def label_of(value: object, wrap: int) -> str:
    """Text that can be drawn, long names broken into lines."""
    text = drawable(f"{value:g}" if isinstance(value, float) else str(value)).replace("\n", " ")
    return "\n".join(textwrap.wrap(text, wrap)) or "(empty)"


def levels_of(frame: pd.DataFrame, column: str) -> list[str]:
    """Labels of a column that occur, in order."""
    return [str(level) for level in frame[column].cat.remove_unused_categories().cat.categories]


def panels_of(frame: pd.DataFrame) -> int:
    return len(levels_of(frame, "experiment"))


def panel_rows(frame: pd.DataFrame, columns: int = 3) -> int:
    """How many rows of panels `facets` makes."""
    return -(-panels_of(frame) // columns)


def lines_needed(labels: Iterable[str]) -> float:
    """Height of rows with these labels, in rows."""
    return sum(1 + 0.6 * label.count("\n") for label in labels)


def widest(labels: Iterable[str]) -> int:
    """Letters of the longest line of any label."""
    return max((len(line) for label in labels for line in label.split("\n")), default=0)


def crowded(labels: Sequence[str], frame: pd.DataFrame, columns: int = 3) -> Sequence[str]:
    """The labels, if side by side under each panel they would touch (about 95 letters fit a full width), or none."""
    return labels if len(labels) * (widest(labels) + 2) * min(panels_of(frame), columns) > 95 else ()


def in_rows(frame: pd.DataFrame, label: str, *, apart: str, within: str | None = None) -> tuple[pd.DataFrame, Any]:
    """Give each label a numbered row, first on top, levels of `apart` a little above each other, and its axis."""
    by = [label] if within is None else [within, label]
    keys = frame[by]
    order = list(dict.fromkeys(keys.sort_values(by, kind="stable").itertuples(index=False, name=None)))
    at = {key: float(len(order) - 1 - i) for i, key in enumerate(order)}
    levels = levels_of(frame, apart)
    step = min(0.26, 0.7 / len(levels))
    code = frame[apart].astype(str).map({level: i for i, level in enumerate(levels)}).astype(float)
    middle = pd.Series([at[key] for key in keys.itertuples(index=False, name=None)], index=frame.index)
    axis = p9.scale_y_continuous(
        breaks=list(at.values()), labels=[str(key[-1]) for key in at], minor_breaks=[], expand=(0, 0.6)
    )
    return frame.assign(row=middle - (code - (len(levels) - 1) / 2) * step), axis


def side_by_side(frame: pd.DataFrame, levels: Sequence[str], places: Sequence[str]) -> pd.DataFrame:
    """Add the horizontal place ``at``: that of ``along``, or one a named place with the levels beside each other."""
    if not places:
        return frame.assign(at=frame["along"])
    place = frame["along"].astype(str).map({name: i for i, name in enumerate(places)}).astype(float)
    code = frame["level"].astype(str).map({name: i for i, name in enumerate(levels)}).astype(float)
    return frame.assign(at=place + (code - (len(levels) - 1) / 2) * 0.6 / len(levels))


def named_axis(places: Sequence[str]) -> Any:
    """Horizontal axis of `side_by_side` for named places."""
    ends = (-0.5, len(places) - 0.5)
    return p9.scale_x_continuous(breaks=list(range(len(places))), labels=places, limits=ends, minor_breaks=[])


def cycle(levels: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    return {level: values[i % len(values)] for i, level in enumerate(levels)}


def colours(levels: Sequence[str], name: str) -> list[Any]:
    """Colour and shape of each level, the same in every figure; shape repeats what colour says."""
    palette, shapes = cycle(levels, PALETTE), cycle(levels, SHAPES)
    title = title_of(name)
    guides = {key: p9.guide_legend(order=1, ncol=legend_columns(levels)) for key in ("color", "fill", "shape")}
    return [
        p9.scale_color_manual(palette, name=title),
        p9.scale_fill_manual(palette, name=title),
        p9.scale_shape_manual(shapes, name=title),
        p9.guides(**guides),
    ]


def legend_columns(levels: Sequence[str]) -> int:
    """How many entries of a legend fit beside each other: about 80 letters, with six for each key."""
    return max(1, min(len(levels), 80 // (widest(levels) + 6)))


def bars(frame: pd.DataFrame, geom: Any, mapping: Mapping[str, str], **style: Any) -> list[Any]:
    """One layer of intervals over the rows that have one; no layer where none has."""
    known = frame.dropna(subset=["conf_low", "conf_high"])
    return [geom(p9.aes(**mapping), known, **style)] if len(known) else []


def chance_line(chance: float | None) -> list[Any]:
    """Mark the accuracy of a guesser, where it is known."""
    if chance is None:
        return []
    word = p9.annotate(
        "text", x=-np.inf, y=chance, label=" chance", ha="left", va="top", size=6, color=FAINT, family=FONT
    )
    return [p9.geom_hline(yintercept=chance, linetype="dashed", color=FAINT, size=0.5), word]


def accuracy_limits(chance: float | None, *values: pd.Series[float]) -> tuple[float, float]:
    lowest = min([*([] if chance is None else [chance]), *pd.concat(values).dropna()], default=0.0)
    return lowest - 0.03, 1.02


def facets(frame: pd.DataFrame, columns: int = 3) -> list[Any]:
    """One panel an experiment, where there are several."""
    return [p9.facet_wrap("experiment", ncol=min(columns, panels_of(frame)))] if panels_of(frame) > 1 else []


def title_of(name: str) -> str:
    return label_of(name[:1].upper() + name[1:].replace("_", " "), 30)


def signed(breaks: Iterable[float]) -> list[str]:
    """Labels of an axis, all with the same decimals and a true minus sign."""
    plain = [f"{value:.8g}" for value in breaks]
    digits = max((len(text.partition(".")[2]) for text in plain if "e" not in text), default=0)
    return [text.replace("-", "−") if "e" in text else minus(float(text), digits) for text in plain]


def minus(value: float, digits: int) -> str:
    """A number with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def shorten(text: str) -> str:
    return text if len(text) <= 34 else f"{text[:33]}…"


def caption(text: str) -> str:
    return textwrap.fill(text, 108)


def add_note(plot: plotnine.ggplot, note: str) -> plotnine.ggplot:
    """Add a sentence to a figure's caption."""
    said = str(plot.labels.caption or "").replace("\n", " ")
    return plot + p9.labs(caption=caption(f"{said} {note}".strip())) if note else plot


def style(
    height_mm: float, *, grid: str, legend: str = "bottom", turned: Sequence[str] = (), stacked: bool = False
) -> list[Any]:
    """The one theme; `grid` names the axis whose grid lines help reading values.

    `turned` are labels of the horizontal axis to be set upright, for which the figure grows; `stacked` puts one
    legend below the other.
    """
    lines, none = p9.element_line(color=GRID, size=0.4), p9.element_blank()
    upright = {"axis_text_x": p9.element_text(rotation=90, ha="center", va="top", linespacing=1.2)} if turned else {}
    height_mm += 1.3 * widest(turned) + 8.0 * stacked
    return [
        p9.theme_minimal(base_size=8, base_family=FONT),
        p9.theme(
            figure_size=(WIDTH_MM * MM, min(height_mm, 215.0) * MM),
            plot_background=p9.element_rect(fill="white", color="white"),
            panel_grid_major_x=lines if grid == "x" else none,
            panel_grid_major_y=lines if grid == "y" else none,
            panel_grid_minor=none,
            panel_spacing=0.025,
            plot_margin_right=0.02,
            plot_margin_top=0.015,
            legend_box="vertical" if stacked else "horizontal",
            legend_box_just="left",
            legend_box_spacing=0.02,
            plot_caption_position="plot",
            axis_line_x=p9.element_line(color=FAINT, size=0.4),
            axis_text=p9.element_text(color=INK, size=7),
            axis_text_y=p9.element_text(ma="right", linespacing=1.15),
            axis_title=p9.element_text(color=INK, size=8),
            strip_text=p9.element_text(color=INK, size=8, weight="bold", ha="left", ma="left"),
            legend_position=legend,
            legend_text=p9.element_text(size=7, ma="left", linespacing=1.15),
            legend_title=p9.element_text(size=7.5),
            legend_key_size=9,
            plot_caption=p9.element_text(color=FAINT, size=6.5, ha="left", lineheight=1.2),
            **upright,
        ),
    ]


def term_labels(terms: pd.DataFrame) -> list[str]:
    """``sd_participant__Intercept`` of group ``participant`` as ``participant: Intercept``."""
    names = [
        str(term).partition("_")[2].removeprefix(f"{group}__").split("__")
        for term, group in zip(terms["term"], terms["group"], strict=True)
    ]
    return [f"{group}: {' ~ '.join(parts)}" for group, parts in zip(terms["group"], names, strict=True)]


def histogram(values: pd.Series[float], bins: int = 30) -> pd.DataFrame:
    """Histogram of `values` as bin edges and shares."""
    counts, edges = np.histogram(values.dropna(), bins=bins)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "share": counts / max(counts.sum(), 1)})
