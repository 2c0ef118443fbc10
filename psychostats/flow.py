"""The flow of participants and trials as a figure: recorded, what each step removed, analysed.

In: the tidy table of `exclusions.apply_exclusions`.  Out: a plotnine figure after the flow diagram of CONSORT, one
column an experiment.  Knows no rules and no reports.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from plotnine import ggplot

from psychostats.figures import BAND, FAINT, FONT, INK, WIDTH_MM, caption, label_of, p9, require, style, widest

_WIDE, _NARROW = 46.0, 31.0  # mm, of a column: where there is one experiment, and where there are four or more
_LETTER = 1.36  # mm, of an average letter of 6.5 points
_TRUNK, _BRANCH, _INSET, _APART = 3.0, 6.0, 1.2, 1.5  # mm from a column's left; of text in a box; between columns
_LINE, _GAP, _PAD = 2.9, 2.6, 2.2  # mm: a line of text, between boxes, within a box above and below the text together
_SIZE = 6.5  # points


@dataclass(frozen=True)
class _Row:
    """A row of the figure: its words, one text a column, and what kind of boxes these stand in."""

    words: str
    cells: tuple[str, ...]
    kind: str  # end, removed or aside

    @property
    def none(self) -> str:
        """What stands where there is no box: of files that cannot be read, nobody knows how many people they hold."""
        return "none" if any(self.cells) or self.words.startswith("Copies") else "number unknown"

    @property
    def height(self) -> float:
        """In mm."""
        return _LINE * max(text.count("\n") + 1 for text in (self.words, *self.cells)) + _PAD


def plot_flow(flow: pd.DataFrame) -> ggplot:
    """Draw how many were recorded, what each step removed, and how many were analysed, one column an experiment.

    Parameters
    ----------
    flow
        ``experiment, step, rule, participants_removed, trials_removed, participants_left, trials_left``, the steps of
        every experiment alike and in their order, as `psychostats.exclusions.apply_exclusions` gives them.  Steps that
        removed nothing in any experiment are named below the figure, but for those of no rule: what could not be read.

    Returns
    -------
    ggplot
        Laid out for up to four experiments; with more of them letters are smaller.

    Raises
    ------
    InputError
        If the table has no rows or lacks a column.
    """
    counts = ["participants_removed", "trials_removed", "participants_left", "trials_left"]
    require(flow, "flow", ["experiment", "step", "rule", *counts])
    flow = flow.assign(rule=flow["rule"].fillna(""))  # blank where the table was read from a file
    parts = [part for _, part in flow.groupby(flow["experiment"].astype(str), sort=False)]
    names = [str(part["experiment"].iloc[0]) for part in parts]
    column = min(max(_NARROW, _WIDE - 5.5 * (len(parts) - 1)), 0.85 * WIDTH_MM / len(parts))
    left = WIDTH_MM - column * len(parts)
    scale = min(1.0, column / _NARROW)
    letter, trunk, branch = scale * _LETTER, scale * _TRUNK, scale * _BRANCH
    rows, idle = _arrange(parts, letters=int((left - 3) / letter))
    left = min(left, 3 + letter * widest(row.words for row in rows))  # the words stand beside their boxes

    titles = [label_of(name, int(column / (1.15 * letter)) - 1) for name in names] if len(names) > 1 else []
    y = -(_LINE * max((title.count("\n") + 1 for title in titles), default=0) + _GAP * bool(titles))
    boxes, words, lines = [], [], []
    starts = [left + column * i for i in range(len(parts))]
    words += [(x, -0.5, title, "bold", INK, "top") for x, title in zip(starts, titles, strict=bool(titles))]
    first = y
    for row in rows:
        middle = y - row.height / 2
        words.append((0.0, middle, row.words, "bold" if row.kind == "end" else "normal", INK, "center"))
        for x, text in zip(starts, row.cells, strict=True):
            indent = 0.0 if row.kind == "end" else branch
            words.append((x + indent + _INSET, middle, text or row.none, "normal", INK if text else FAINT, "center"))
            if text:
                boxes.append((x + indent, x + column - _APART, y, y - row.height, row.kind))
                if row.kind != "end":
                    lines.append((x + trunk, x + branch, middle, middle))
        y -= row.height + _GAP
    top, bottom = first - rows[0].height, y + _GAP + rows[-1].height
    lines += [(x + trunk, x + trunk, top, bottom) for x in starts]
    return _draw(boxes, words, lines, height=-y, size=scale * _SIZE, note=_note(rows, idle))


def _arrange(parts: list[pd.DataFrame], letters: int) -> tuple[list[_Row], list[str]]:
    """Return the rows of the figure, and the steps that removed nothing."""
    steps = list(parts[0]["step"])
    rows, idle = [], []
    for place, step in enumerate(steps):
        here = [part.iloc[place] for part in parts]
        if place in (0, len(steps) - 1):
            cells = [_count(one["participants_left"], one["trials_left"], always=True) for one in here]
            rows.append(_Row(label_of(_capital(step), letters), tuple(cells), "end"))
            continue
        cells = [_count(one["participants_removed"], one["trials_removed"]) for one in here]
        if any(cells) or not (here[0]["rule"] or step.endswith("set aside")):
            kind = "aside" if step.endswith("set aside") else "removed"
            rows.append(_Row(label_of(_capital(step), letters), tuple(cells), kind))
        else:
            idle.append(step)
    return rows, idle


def _count(participants: int, trials: int, *, always: bool = False) -> str:
    """Return the two counts in words, a line each; those that are 0 only where they must be said."""
    numbers = {"participant": int(participants), "trial": int(trials)}
    said = [f"{number:,} {what}{'s' * (number != 1)}" for what, number in numbers.items() if number or always]
    return "\n".join(said)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _note(rows: list[_Row], idle: list[str]) -> str:
    """Say what the figure's boxes mean, and which steps it leaves out."""
    note = "Grey boxes: removed."
    if any(row.kind == "aside" for row in rows):
        note += " Dashed boxes: set aside by design, not excluded."
    return note + (f" Removed nothing: {'; '.join(idle)}." if idle else "")


def _draw(
    boxes: list[tuple[float, float, float, float, str]],
    words: list[tuple[float, float, str, str, str, str]],
    lines: list[tuple[float, float, float, float]],
    *,
    height: float,
    size: float,
    note: str,
) -> ggplot:
    """Draw boxes, words and arrows whose places are in mm, from the upper left corner to the right and up."""
    frames = pd.DataFrame(boxes, columns=["xmin", "xmax", "ymax", "ymin", "kind"])
    texts = pd.DataFrame(words, columns=["x", "y", "text", "weight", "color", "va"])
    arrows = pd.DataFrame(lines, columns=["x", "xend", "y", "yend"])
    box, none = p9.aes(xmin="xmin", xmax="xmax", ymin="ymin", ymax="ymax"), p9.element_blank()
    kinds = {"end": ("white", "solid", 0.6), "removed": (BAND, "solid", 0.4), "aside": ("white", "dashed", 0.4)}
    said = caption(note)
    return (
        p9.ggplot()
        + p9.geom_segment(
            p9.aes("x", "y", xend="xend", yend="yend"),
            arrows,
            size=0.4,
            color=INK,
            arrow=p9.arrow(length=0.045, type="closed", angle=22),
        )
        + [
            p9.geom_rect(box, frames[frames["kind"] == kind], fill=fill, color=INK, linetype=edge, size=width)
            for kind, (fill, edge, width) in kinds.items()
            if (frames["kind"] == kind).any()
        ]
        + [
            p9.geom_text(
                p9.aes("x", "y", label="text"),
                part,
                size=size,
                family=FONT,
                ha="left",
                va=va,
                color=colour,
                fontweight=weight,
                lineheight=1.15,
            )
            for (weight, colour, va), part in texts.groupby(["weight", "color", "va"])
        ]
        + p9.scale_x_continuous(limits=(0, WIDTH_MM), expand=(0, 0))
        + p9.scale_y_continuous(limits=(-height, 0.5), expand=(0, 0))
        + p9.labs(x="", y="", caption=said)
        + style(height + 6 + 3.0 * (said.count("\n") + 1), grid="", legend="none")
        + p9.theme(axis_text=none, axis_title=none, axis_line_x=none, axis_ticks=none)
    )
