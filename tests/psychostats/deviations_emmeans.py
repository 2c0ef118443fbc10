"""Golden numbers of R's emmeans beside this package's: which analyses, and by how much each number differs.

In: `tests/golden/emmeans.json`.  Out: for each analysis the pairs of tables to compare, and the largest differences by
kind of number.  Run as a script it prints the table of `tests/golden/README.md`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from deviations import FOLDER, load, trials

import psychostats as ps
from psychostats.means import Contrasts, MarginalMeans

#: What is compared: estimates and limits in units of the larger of the number and its standard error; standard errors
#: relative; p-values absolute, z-ratios likewise; then those of `mvt`, which R finds with random points.
KINDS = ("estimate", "SE", "limits", "z", "p", "mvt limits", "mvt p")
GOLDEN = {name: entry for name, entry in load("emmeans").items() if not name.startswith("_")}
ANALYSES = [(name, analysis) for name, entry in GOLDEN.items() for analysis in entry["analyses"]]
_FIGURES = ("SE", "LCL", "UCL", "null", "z.ratio", "p.value")


@functools.cache
def fitted(name: str) -> ps.Fit:
    """Return this package's fit of an entry."""
    entry = GOLDEN[name]
    family = {"family": "gaussian", "reml": name.endswith("_reml")} if name.startswith("gaussian") else {}
    frame = trials(FOLDER / "data" / entry["data"])
    return ps.fit(entry["formula"], frame, engine="laplace", progress=False, **family)


def asked(name: str, analysis: str, **more: Any) -> MarginalMeans:
    """Return this package's means, or trends, of an analysis."""
    entry = GOLDEN[name]["analyses"][analysis]
    specs = f"~ {entry['specs']}"
    if "var" in entry:
        return ps.emtrends(fitted(name), specs, entry["var"], **more)
    return ps.emmeans(fitted(name), specs, at=entry.get("at"), weights=entry.get("weights", "equal"), **more)


def pairs_of_tables(name: str, analysis: str) -> Iterator[tuple[str, pd.DataFrame, list[dict[str, Any]]]]:
    """Yield what is compared, this package's table with R's column names, and R's rows."""
    entry = GOLDEN[name]["analyses"][analysis]
    means = asked(name, analysis)
    yield from _tables(entry, means)
    if "response" in entry:
        response = asked(name, analysis, scale="response")
        yield "response", _named(response), entry["response"]
        tukey = ps.pairs(response, adjust="tukey")
        yield "response tukey", _named(tukey), entry["adjusted_response"]["tukey"]
        for method, made in entry["contrasts"].items():
            if "response" in made:
                yield f"{method} response", _named(ps.contrast(response, method, adjust="none")), made["response"]
        grid = means.regrid()  # R's regrid() of means that were averaged on the link
        yield "regrid", _named(grid), entry["regrid"]["means"]
        yield "regrid pairs", _named(ps.pairs(grid, adjust="none")), entry["regrid"]["pairs"]


def _tables(entry: dict[str, Any], means: MarginalMeans) -> Iterator[tuple[str, pd.DataFrame, list[dict[str, Any]]]]:
    for key in ("link", "trends"):
        if key in entry:
            yield key, _named(means), entry[key]
    if "pairs" in entry:
        yield "pairs", _named(ps.pairs(means, adjust="none")), entry["pairs"]
    if "pairs_tukey" in entry:
        yield "pairs tukey", _named(ps.pairs(means)), entry["pairs_tukey"]
    for method, made in entry["contrasts"].items() if isinstance(entry.get("contrasts"), dict) else ():
        yield method, _named(ps.contrast(means, method, adjust="none")), made["link"]
    for adjust, rows in entry.get("adjusted", {}).items():
        yield adjust, _named(ps.pairs(means, adjust=adjust)), rows
    if isinstance(entry.get("contrasts"), list):  # the interaction: differences of differences
        cells = [tuple(cell) for cell in means.cells.to_numpy()]
        yield (
            "interaction",
            _named(ps.contrast(means, _interaction(entry["contrasts"], cells), adjust="none")),
            [
                {key: value for key, value in row.items() if key in ("estimate", *_FIGURES)}
                for row in entry["contrasts"]
            ],
        )


def _interaction(rows: Sequence[dict[str, Any]], cells: list[tuple[Any, ...]]) -> dict[str, list[float]]:
    weights = {}
    for row in rows:
        later, earlier = (float(x) for x in row["depth_revpairwise"].split(" - "))
        of = {"distributed": 1.0, "local": -1.0}
        weights[row["depth_revpairwise"]] = [of[a] * ((x == later) - (x == earlier)) for a, x in cells]
    return weights


def _named(table: MarginalMeans | Contrasts) -> pd.DataFrame:
    made = table.table(names="R")
    return made.rename(columns={name: name.removeprefix("asymp.") for name in made.columns})


def compare(name: str, analysis: str) -> dict[str, float]:
    """Return the largest difference of each of `KINDS` over the tables of an analysis, NaN where there is none.

    Raises
    ------
    AssertionError
        If the rows are not of the same means or contrasts, or not in R's order.
    """
    largest = dict.fromkeys(KINDS, np.nan)

    def note(kind: str, differences: Any) -> None:
        largest[kind] = float(np.fmax(largest[kind], np.max(np.abs(differences))))

    for what, own, rows in pairs_of_tables(name, analysis):
        golden = pd.DataFrame(rows)
        words = [
            column for column in golden if column in own and column not in _FIGURES and golden[column].dtype == object
        ]
        assert len(own) == len(golden), what
        for column in words:
            assert own[column].astype(str).tolist() == golden[column].astype(str).tolist(), (what, column)
        (estimate,) = {"emmean", "prob", "odds.ratio", "estimate", f"{_variable(name, analysis)}.trend"} & set(golden)
        se = golden["SE"].to_numpy()
        note("estimate", (own[estimate] - golden[estimate]) / np.maximum(np.abs(golden[estimate]), se))
        note("SE", own["SE"] / se - 1.0)
        mvt = "mvt " * (what == "mvt")
        for side in ("LCL", "UCL"):
            note(mvt + "limits", (own[side] - golden[side]) / np.maximum(np.abs(golden[side]), se))
        if "p.value" in own:
            note("z", own["z.ratio"] - golden["z.ratio"])
            note(mvt + "p", own["p.value"] - golden["p.value"])
    return largest


def _variable(name: str, analysis: str) -> str:
    return str(GOLDEN[name]["analyses"][analysis].get("var"))


def table() -> str:
    """Return the differences of every analysis as a Markdown table."""
    lines = ["| analysis | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    for name, analysis in ANALYSES:
        cells = ["" if np.isnan(value) else f"{value:.0e}" for value in compare(name, analysis).values()]
        lines.append(f"| {name}:{analysis} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
