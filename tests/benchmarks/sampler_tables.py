"""What the sampler's benchmark found, as tables, goals and a plot.

In: rows of runs, and the machine.  Out: sampler.csv, sampler.json, sampler.png and the generated part of README.md, all
from the stored rows alone.  Runs nothing.

A figure counts only from runs whose largest R-hat over b, sd and cor is under 1.01; medians are over those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RHAT_MAX = 1.01
BEGIN, END = "<!-- sampler: generated from sampler.csv -->", "<!-- sampler: end -->"
COLUMNS = (
    "part",
    "size",
    "data",
    "tool",
    "seed",
    "trials",
    "participants",
    "factors",
    "draws",
    "fit_s",
    "fresh_s",
    "sample_s",
    "ess_bulk",
    "ess_tail",
    "ess_bulk_cor",
    "ess_tail_cor",
    "rhat",
    "divergences",
    "steps",
    "peak_mb",
    "load",
    "error",
)
_TEXT = ("part", "size", "data", "tool", "error")
_OURS = "psychostats nuts"


@dataclass(frozen=True)
class Goal:
    """A figure and what it must be.

    Parameters
    ----------
    part, size
        Which runs; `size` is empty where a part has but one.
    what
        The figure in words.
    figure
        Of the medians of these runs, a row a tool; NaN where it has none.
    bound
        The least value, or the most.
    least
        Which of both.
    """

    part: str
    size: str
    what: str
    figure: Callable[[pd.DataFrame], float]
    bound: float
    least: bool = True


def _of(tool: str, column: str) -> Callable[[pd.DataFrame], float]:
    return lambda medians: float(medians[column].get(tool, np.nan))


def _ratio(column: str, peer: str) -> Callable[[pd.DataFrame], float]:
    return lambda medians: _of(_OURS, column)(medians) / _of(peer, column)(medians)


def _small(size: str) -> list[Goal]:
    return [
        Goal("small", size, "least bulk ESS", _of(_OURS, "ess_bulk"), 2300),
        Goal("small", size, "least tail ESS", _of(_OURS, "ess_tail"), 2000),
        Goal("small", size, "ESS/s without imports", _of(_OURS, "rate"), 5000),
        Goal("small", size, "ESS/s of a fresh process", _of(_OURS, "rate_fresh"), 1500),
        Goal("small", size, "end to end, times bambi pymc", _ratio("rate_fresh", "bambi pymc"), 50),
        Goal("small", size, "end to end, times bambi nutpie", _ratio("rate_fresh", "bambi nutpie"), 25),
    ]


GOALS = (
    *_small("exp1"),
    *_small("crossed"),
    Goal("middle", "560 people", "ESS/s without imports", _of(_OURS, "rate"), 150),
    Goal("middle", "560 people", "times PyMC with nutpie", _ratio("rate", "psychostats pymc"), 50),
    Goal(
        "middle",
        "560 people",
        "the same, sampling alone",
        _ratio("rate_sampling", "psychostats pymc"),
        50,
    ),
    Goal("study", "natural", "trials to written fit, s", _of(_OURS, "fresh_s"), 10, least=False),
    Goal("report", "three experiments", "whole report, s", _of("psychostats report", "fresh_s"), 60, least=False),
    Goal("large", "5,600 people", "ESS/s without imports", _of(_OURS, "rate"), 20),
    Goal("large", "5,600 people", "peak memory, MB", _of(_OURS, "peak_mb"), 2000, least=False),
    Goal("huge", "56,000 people", "laplace, s", _of("psychostats laplace", "fit_s"), 100, least=False),
)
_HEADINGS = {
    "small": "Peers, small data",
    "middle": "The seed study's size",
    "study": "One experiment of the embedded study, trials to written fit, by the command line",
    "report": "The embedded study's report, empty caches",
    "large": "168,000 trials",
    "huge": "1,680,000 trials, maximum likelihood",
}


@dataclass(frozen=True)
class Store:
    """The folder that holds the figures."""

    folder: Path

    @property
    def read_me(self) -> Path:
        """Where the tables stand."""
        return self.folder / "README.md"

    def rows(self) -> pd.DataFrame:
        """Return every run that is stored."""
        path = self.folder / "sampler.csv"
        held = pd.read_csv(path) if path.exists() else pd.DataFrame()
        held = held.reindex(columns=list(COLUMNS))
        texts = {name: held[name].astype(object).where(held[name].notna(), "") for name in _TEXT}
        return held.assign(**texts)

    def machines(self) -> dict[str, Any]:
        """Return machine and versions of each part."""
        path = self.folder / "sampler.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def keep(self, part: str, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
        """Put the rows of a part in the place of those it had, and say where they were made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held, new = self.rows(), pd.DataFrame(rows).reindex(columns=list(COLUMNS))
        held = held[held["part"] != part]
        table = pd.concat([held, new], ignore_index=True) if len(held) else new
        table = table.sort_values("part", key=lambda parts: parts.map(_place), kind="stable")
        numbers = table.select_dtypes("number").columns
        table[numbers] = table[numbers].round(4)
        table.to_csv(self.folder / "sampler.csv", index=False, lineterminator="\n")
        versions = dict(about["versions"])
        for row in rows:
            if "versions" in row:
                versions[row["tool"].split()[0]] = row["versions"]
        machines = self.machines() | {part: about | {"versions": versions}}
        text = json.dumps(machines, indent=1, sort_keys=True) + "\n"
        (self.folder / "sampler.json").write_text(text, encoding="utf-8")

    def publish(self) -> list[str]:
        """Write tables and plot, and return the goals that were not met."""
        rows = self.rows()
        if (rows["part"] == "growth").any():
            plot(rows).save(self.folder / "sampler.png", verbose=False)
        text = self.read_me.read_text(encoding="utf-8") if self.read_me.exists() else f"{BEGIN}\n{END}\n"
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        made = "\n".join(render(rows, self.machines()))
        self.read_me.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{after}", encoding="utf-8")
        return [goal.what for goal, _, met in judge(rows) if met is False]


def judge(rows: pd.DataFrame) -> list[tuple[Goal, float, bool | None]]:
    """Return every goal with its figure and whether it was met; None where there is no figure that counts."""
    judged = []
    for goal in GOALS:
        runs = rows[(rows["part"] == goal.part) & (rows["size"] == goal.size)]
        figure = goal.figure(medians(runs))
        met = None if np.isnan(figure) else bool(figure >= goal.bound if goal.least else figure <= goal.bound)
        judged.append((goal, figure, met))
    return judged


def medians(runs: pd.DataFrame) -> pd.DataFrame:
    """Return medians by tool, with effective draws a second, over the runs that count, and how many those are."""
    counts = runs[(runs["error"] == "") & ~(runs["rhat"] >= RHAT_MAX)]
    rates = {"rate": "fit_s", "rate_fresh": "fresh_s", "rate_sampling": "sample_s"}
    counts = counts.assign(**{rate: counts["ess_bulk"] / counts[seconds] for rate, seconds in rates.items()})
    numbers = [name for name in counts.columns if name not in _TEXT]
    # The divergences are of all runs together, since a median would hide them.
    table = counts.groupby("tool", sort=False)[numbers].median()
    table["divergences"] = runs.groupby("tool")["divergences"].sum(min_count=1)
    table = table.reindex(runs["tool"].unique())
    return table.assign(counted=counts.groupby("tool").size(), runs=runs.groupby("tool").size()).fillna({"counted": 0})


def render(rows: pd.DataFrame, machines: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the generated part."""
    if rows.empty:
        yield "No run is stored yet."
        return
    yield from ("### Goals", "")
    lines = []
    for goal, figure, met in judge(rows):
        sign = "at least" if goal.least else "at most"
        word = {None: "no figure that counts", True: "met", False: "**missed**"}[met]
        lines.append([_told(goal.part, goal.size), goal.what, f"{sign} {goal.bound:,g}", _number(figure), word])
    yield from _table(["data", "figure", "goal", "median", ""], lines)
    for part, heading in _HEADINGS.items():
        for size in rows.loc[rows["part"] == part, "size"].unique():
            yield from _runs_table(rows[(rows["part"] == part) & (rows["size"] == size)], heading)
    growth = rows[rows["part"] == "growth"]
    if len(growth):
        yield from ("", "### Growth (simulated)", "", "![Seconds by trials, participants and factors](sampler.png)", "")
        yield from _table(
            ["along", "trials", "participants", "factors", "fit, s", "bulk ESS", "ESS/s", "peak, MB", "runs counted"],
            _growth(growth),
        )
    yield from ("", "### Machine and versions", "")
    yield from _machine_lines(machines)


def _runs_table(runs: pd.DataFrame, heading: str) -> Iterator[str]:
    first, table = runs.iloc[0], medians(runs)
    simulated = "real participants" if first["data"] == "real" else "simulated"
    count = f", {first['trials']:,.0f} trials" if pd.notna(first["trials"]) else ""
    yield from ("", f"### {heading}: {first['size']} ({simulated}{count})", "")
    ours = table.loc[_OURS, "rate_fresh"] if _OURS in table.index else np.nan
    lines = []
    for tool, row in table.iterrows():
        ratio = "" if tool == _OURS else _number(ours / row["rate_fresh"])
        figures = [row[name] for name in ("fit_s", "fresh_s", "sample_s", "ess_bulk", "ess_tail")]
        figures += [row[name] for name in ("ess_bulk_cor", "ess_tail_cor")]
        line = [str(tool), *map(_number, figures), _number(row["rate"]), _number(row["rate_fresh"]), ratio]
        worst = runs.loc[runs["tool"] == tool, "rhat"].max()
        line += [f"{worst:.3f}" if pd.notna(worst) else "", _number(row["divergences"]), _number(row["peak_mb"])]
        lines.append([*line, f"{row['counted']:.0f} of {row['runs']:.0f}"])
    heads = [
        "tool",
        "fit, s",
        "fresh, s",
        "sampling, s",
        "bulk ESS",
        "tail ESS",
        "bulk, cor",
        "tail, cor",
        "ESS/s",
        "fresh ESS/s",
    ]
    yield from _table([*heads, "ours times", "worst R-hat", "div.", "peak, MB", "runs counted"], lines)
    failed = runs[runs["error"] != ""]
    for tool, error in zip(failed["tool"], failed["error"], strict=True):
        yield from ("", f"{tool} failed: {error}")


def _growth(runs: pd.DataFrame) -> list[list[str]]:
    lines = []
    for axis in runs["size"].unique():
        part = runs[runs["size"] == axis]
        for _, same in part.groupby(["trials", "participants", "factors"], sort=True):
            row = medians(same).iloc[0]
            counts = [f"{same.iloc[0][name]:,.0f}" for name in ("trials", "participants", "factors")]
            figures = [_number(row[name]) for name in ("fit_s", "ess_bulk", "rate", "peak_mb")]
            lines.append([str(axis), *counts, *figures, f"{row['counted']:.0f} of {row['runs']:.0f}"])
    return lines


def _machine_lines(machines: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each machine and set of versions, and the parts that ran there."""
    told: dict[str, list[str]] = {}
    for part in sorted(machines, key=_place):
        about = machines[part]
        versions = "; ".join(
            f"{tool}: " + ", ".join(f"{name} {number}" for name, number in found.items())
            for tool, found in about["versions"].items()
        )
        line = f"{about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, {about['system']}; {versions}"
        told.setdefault(line, []).append(part)
    for line, parts in told.items():
        yield f"- {', '.join(parts)}: {line}."


def _table(head: list[str], lines: list[list[str]]) -> Iterator[str]:
    """Yield a table without the columns of which no line has a figure."""
    filled = [any(line[place] for line in lines) for place in range(len(head))]
    head, *lines = [[cell for cell, kept in zip(line, filled, strict=True) if kept] for line in (head, *lines)]
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for line in lines:
        yield f"| {' | '.join(line)} |"


def _told(part: str, size: str) -> str:
    return f"{part}: {size}"


def _place(part: str) -> int:
    return [*_HEADINGS, "growth"].index(part)


def _number(value: float) -> str:
    """Write a figure to three digits, and none that is missing."""
    if pd.isna(value):
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def plot(rows: pd.DataFrame) -> Any:
    """Draw seconds of a fit, and of a thousand effective draws, by trials, participants and factors."""
    import plotnine as p9

    growth = rows[(rows["part"] == "growth") & (rows["error"] == "") & ~(rows["rhat"] >= RHAT_MAX)]
    growth = growth.assign(thousand=1000.0 * growth["fit_s"] / growth["ess_bulk"])
    names = {"fit_s": "the fit", "thousand": "1,000 effective draws"}
    parts = []
    for axis, of_axis in growth.groupby("size", sort=False):
        for column, label in names.items():
            part = pd.DataFrame({"axis": axis, "x": of_axis[str(axis)], "seconds": of_axis[column], "of": label})
            parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table["axis"] = pd.Categorical(table["axis"], categories=list(growth["size"].unique()))
    lines = table.groupby(["axis", "x", "of"], as_index=False, observed=True)["seconds"].median()
    return (
        p9.ggplot(table, p9.aes("x", "seconds", colour="of", shape="of"))
        + p9.geom_line(p9.aes(linetype="of"), data=lines)
        + p9.geom_point(alpha=0.6)
        + p9.facet_wrap("axis", scales="free_x")
        + p9.scale_x_log10()
        + p9.scale_y_log10()
        + p9.scale_colour_manual(["#0072B2", "#D55E00"])
        + p9.labs(x="how many", y="seconds", colour="", shape="", linetype="", title="Simulated trials; lines: medians")
        + p9.theme_bw()
        + p9.theme(figure_size=(7.5, 3.0), dpi=110, legend_position="bottom", panel_spacing=0.05)
    )
