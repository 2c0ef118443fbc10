"""The section on what features contribute to the network's decision: sentences, tables and figures.

In: a `psychostats.contributions.Contributions` and its figures by name.  Out: blocks of a document, and the sentences
on the claim alone, for a summary.  Computes no statistic; every number is a cell of a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats.contribution_figures import interval_letters, plot_contributions, plot_verdicts
from psychostats.contribution_measures import LOG_RATIO
from psychostats.contributions import Contributions
from psychostats.document import (
    Block,
    BulletList,
    Column,
    Figure,
    Heading,
    Link,
    Paragraph,
    Strong,
    Table,
    Words,
    prose,
)
from psychostats.measure import number, percent
from psychostats.sentences import Row, estimate, factor

CLAIM = "distributed features contribute more to the network's decision"
_BOTH = ("subtract", "reconstruct")


def draw_contributions(found: Contributions) -> dict[str, Any]:
    """Draw the section's figures (plotnine), by the names that `describe_contributions` looks for."""
    fitted = found.fitted[found.fitted["measure"] == "size"]
    fitted = fitted if "depth" in fitted else fitted.iloc[:0]
    return {
        "contributions": plot_contributions(found.by_pair, found.by_layer, fitted),
        "verdicts": plot_verdicts(found.verdicts),
    }


def say_contributions(verdicts: pd.DataFrame) -> tuple[Words, ...]:
    """Say which measures agree with the claim that distributed features contribute more, and which do not.

    Parameters
    ----------
    verdicts
        As `psychostats.contributions.judge` returns it.

    Returns
    -------
    tuple
        A sentence on the claim, one on its change with depth, and one on each thing that must be said beside a measure
        that agrees: what the dictionary's error or the removed norm accounts for.
    """
    said = [_say(verdicts, "says", CLAIM), *_headline(verdicts)]
    if not (verdicts["says_change"] == "unknown").all():
        said.append(_say(verdicts, "says_change", "the difference moves towards distributed features with depth"))
    return (*said, *_cautions(verdicts))


def _say(verdicts: pd.DataFrame, column: str, claim: str) -> Words:
    """Say on which side measures are, as a whole and by definition of nulling."""
    known = verdicts[verdicts[column] != "unknown"]
    held = set(known[column])
    if not held:
        opening, rest = "No measure has an interval", "so nothing is said of whether"
    elif {"higher", "lower"} <= held:
        opening, rest = "The measures disagree", "on the claim that"
    elif "higher" in held:
        opening = "Some measures agree and none contradicts" if "open" in held else "All measures agree"
        rest = "the claim that" if "open" in held else "with the claim that"
    elif "lower" in held:
        opening = "Some measures contradict and none supports" if "open" in held else "All measures contradict"
        rest = "the claim that"
    else:
        opening, rest = "It is open by every measure", "whether"
    parts = [_by_method(method, known.loc[known["method"] == method], column) for method in _BOTH]
    return prose(
        "{opening} {rest} {claim}.{parts}", opening=Strong(opening), rest=rest, claim=claim, parts="".join(parts)
    )


def _by_method(method: str, part: pd.DataFrame, column: str) -> str:
    """Say what the measures of one definition of nulling say, naming them unless they all say the same."""
    said = []
    for key, (one, many) in {
        "higher": ("says so", "say so"),
        "lower": ("says the opposite", "say the opposite"),
        "open": ("leaves it open", "leave it open"),
    }.items():
        names = list(part.loc[part[column] == key, "words"])
        if names and len(names) == len(part) and len(names) > 1:
            return f" Nulled by {method}, all {len(names)} measures {many}."
        if names:
            said.append(f"{len(names)} {one if len(names) == 1 else many} ({'; '.join(names)})")
    return f" Nulled by {method}, of {len(part)} measures {', '.join(said)}." if said else ""


def _headline(verdicts: pd.DataFrame) -> list[Words]:
    """Say the difference in size by the model, for both definitions side by side."""
    rows = verdicts[verdicts["measure"] == "size"].to_dict(orient="records")
    if not rows:
        return []
    sides = " and ".join(f"{estimate(row)} logits nulled by {row['method']}" for row in rows)
    words = "By the hierarchical model the size of the change of the logit differs, distributed − local, by {0} ({1})."
    return [prose(words, sides, str(rows[0]["label"]))]


def _cautions(verdicts: pd.DataFrame) -> list[Words]:
    """Say what may stand behind a measure: the dictionary's error, or the norm that is removed."""
    held = {(row["measure"], row["method"]): row for row in verdicts.to_dict(orient="records")}
    said: list[Words] = []
    size, within = held.get(("size", "reconstruct")), held.get(("within", "reconstruct"))
    charged = verdicts[(verdicts["method"] == "reconstruct") & (verdicts["measure"] != "within")]["says"]
    if size is not None and within is not None:
        agrees = (charged == "higher").any() and within["says"] != "higher"
        if agrees or size["says"] != within["says"]:
            said.append(
                prose(
                    "Only reconstruction charges the dictionary's error to its directions, at equal norm and in the "
                    "most active features too, and that matters here: the difference in size, {0} logits with it, is "
                    "{1} where a direction is taken out of the reconstruction and the drop is counted from there.",
                    estimate(size),
                    estimate(within),
                )
            )
    for method in _BOTH:
        equal = [held[name, method]["says"] for name in ("matched", "regression") if (name, method) in held]
        one = held.get(("size", method), {}).get("says")
        if one in ("higher", "lower") and equal and one not in equal:
            drop, norm, more = ("larger", "larger", "more") if one == "higher" else ("smaller", "smaller", "less")
            said.append(
                prose(
                    "Nulled by {0}, the {1} drop of distributed features may be that of a {2} norm that is removed: at "
                    "equal norm no measure says that they contribute {3}.",
                    method,
                    drop,
                    norm,
                    more,
                )
            )
    return said


def describe_contributions(found: Contributions, figures: Mapping[str, Path]) -> list[Block]:
    """Compose the section.

    Parameters
    ----------
    found
        What was compared.
    figures
        SVG files under the names of `draw_contributions`; a figure that is not there is left out.
    """
    counts = found.counts
    shared = counts["pairs"] - counts["directions"]
    blocks: list[Block] = [
        Heading("Contributions to the decision", 1, "contributions"),
        Paragraph(
            prose(
                "Each feature of {0} pairs was nulled in {1} images, and the change of the logit of the class that is "
                "predicted was measured (drop: before less after). Two definitions stand side by side: subtract takes "
                "the feature's term out of the activations; reconstruct replaces the activations by what the "
                "dictionary makes of them, without the term. For neurons both are the same.{2}",
                counts["pairs"],
                counts["images"],
                f" {counts['directions']} directions are distinct; pairs that share one are resampled together."
                if shared
                else "",
            )
        ),
        BulletList(say_contributions(found.verdicts)),
        Paragraph(
            "Comparisons share features, images and the network, so how many agree is no test, and no interval is "
            "adjusted for their number. The size of a drop follows the norm that is removed: a larger one is not more "
            "importance by itself, and only the measures at equal norm, and selectivity, take that into account."
        ),
        tabulate_verdicts(found),
    ]
    if "verdicts" in figures:
        blocks.append(
            Figure(figures["verdicts"], _forest_caption(), _forest_alt(found), "figure-contribution-verdicts")
        )
    if "contributions" in figures:
        caption = (
            "Size of the change of the logit when a feature is nulled, by depth: each feature of each pair, the means "
            "of layers with their intervals, and the model."
        )
        blocks.append(Figure(figures["contributions"], caption, _depth_alt(found), "figure-contributions"))
    blocks += [tabulate_layers(found, method) for method in _methods(found)]
    if len(found.selectivity):
        blocks.append(tabulate_selectivity(found))
    return [*blocks, tabulate_models(found), BulletList(_reading(found))]


def tabulate_verdicts(found: Contributions) -> Table:
    """Every measure's difference and its change with depth, ratios as factors."""
    letters, kinds = interval_letters(found.verdicts)
    rows = [
        {
            "measure": row["words"],
            "method": row["method"],
            "unit": _unit(row),
            "estimate": _cell(row),
            "says": row["says"],
            "change": _cell(row | _change(row)),
            "says_change": row["says_change"],
            "interval": letter,
        }
        for row, letter in zip(found.verdicts.to_dict(orient="records"), letters, strict=True)
    ]
    columns = (
        Column("measure", "Measure"),
        Column("method", "Nulled by"),
        Column("unit", "Unit"),
        Column("estimate", "Distributed − local", align="right"),
        Column("says", "Distributed"),
        Column("change", "Its change with depth", align="right"),
        Column("says_change", "Deeper"),
        Column("interval", "In brackets", align="center"),
    )
    return Table(
        columns,
        pd.DataFrame(rows),
        "Whether distributed features contribute more, by every measure.",
        f"In brackets: {kinds}. Higher or lower: the interval lies on one side of no difference; open: it does not; "
        f"unknown: there is none. Of the unit times, distributed over local, no difference is 1. The change is that "
        f"from the first to the last layer, along a straight line. Standardised is by the SD of the network's logits, "
        f"one number: it compares networks, and says nothing new of one.",
        "table-contribution-verdicts",
    )


def tabulate_layers(found: Contributions, method: str) -> Table:
    """Paired differences layer by layer, for one definition of nulling."""
    rows = found.differences
    rows = rows[rows["layer"].notna() & (rows["method"] == method)]
    out: dict[str, dict[str, Any]] = {}
    names = ["paired", "paired_signed", "ratio", "norm", "matched", "most_active"]
    labels = dict.fromkeys(names, "")
    for row in rows.sort_values("depth", kind="stable").to_dict(orient="records"):
        own = "most_active" if row["measure"] == "most_active" else "fixed"
        if row["measure"] not in labels or row["selection"] != own:
            continue
        line = out.setdefault(row["layer"], {"layer": row["layer"], "depth": row["depth"]})
        line[row["measure"]] = _cell(row)
        labels[row["measure"]] = f"{row['label']} over {row['over']}"
        if row["measure"] == "paired":
            line |= {"pairs": row["n_pairs"], "directions": row["n_clusters"]}
        if row["measure"] == "matched":
            every = row["n_pairs"] + row["left_out"]
            line["share"] = row["n_pairs"] / every if every else np.nan
    headers = {
        "paired": "Size",
        "paired_signed": "With sign",
        "ratio": "Size, times",
        "norm": "Removed norm, times",
        "matched": "Size at equal norm",
        "most_active": "Most active",
    }
    present = [name for name in names if labels[name]]
    columns = [Column("layer", "Layer"), Column("depth", "Depth", "number")]
    columns += [Column("pairs", "Pairs", "integer"), Column("directions", "Clusters", "integer")]
    for name in present:
        columns.append(Column(name, headers[name], align="right"))
        if name == "matched":
            columns.append(Column("share", "Matched", "percent", 0))
    by_label: dict[str, list[str]] = {}
    for name in present:
        by_label.setdefault(labels[name], []).append(headers[name].lower())
    kinds = "; ".join(f"{label} ({', '.join(said)})" for label, said in by_label.items())
    return Table(
        tuple(columns),
        pd.DataFrame(list(out.values())),
        prose("Distributed less (times: over) local features, layer by layer, nulled by {0}.", method),
        f"In brackets: {kinds}. Clusters: pairs that share a direction count once; over few of them an interval is too "
        "narrow, and over one there is none. Matched: share of the directions' rows with a neuron of like norm.",
        f"table-contribution-layers-{method}",
    )


def tabulate_selectivity(found: Contributions) -> Table:
    """Medians of selectivity by layer and representation."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found.selectivity.sort_values("depth", kind="stable").to_dict(orient="records"):
        key = (row["method"], row["layer"])
        line = rows.setdefault(key, {"method": row["method"], "layer": row["layer"], "depth": row["depth"]})
        line[row["representation"]] = number(row["median"])
        line[f"n_{row['representation']}"] = row["n"]
        line[f"none_{row['representation']}"] = row["negative"]
    order = {method: place for place, method in enumerate(_BOTH)}
    lines = sorted(rows.values(), key=lambda line: (order[line["method"]], line["depth"]))
    columns = [Column("method", "Nulled by"), Column("layer", "Layer"), Column("depth", "Depth", "number")]
    for basis in ("local", "distributed"):
        columns += [
            Column(basis, basis.capitalize(), align="right"),
            Column(f"n_{basis}", "Features", "integer"),
            Column(f"none_{basis}", "Not above 0", "integer"),
        ]
    return Table(
        tuple(columns),
        pd.DataFrame(lines),
        "Selectivity: mean drop where a feature's element is present, over the mean size of the change where it is "
        "absent. Medians over features.",
        "Features not above 0 have no drop where their element is present. In the paired comparison ratios count as at "
        "least 1/1000 and at most 1000, which a median does not depend on unless it is one of these.",
        "table-contribution-selectivity",
    )


def tabulate_models(found: Contributions) -> Table:
    """Which models were fitted, and what must be known of each."""
    frame = found.models.assign(singular=[text or "none" for text in found.models["singular"]])
    return Table(
        (
            Column("formula", "Model", "code"),
            Column("method", "Nulled by"),
            Column("rows", "Rows", "integer"),
            Column("converged", "Converged"),
            Column("singular", "On the boundary", "code"),
        ),
        frame,
        "Hierarchical models of the change of the logit, by restricted maximum likelihood.",
        "size: of the drop; drop: with its sign; within: the size, less what reconstruction alone changes.",
        "table-contribution-models",
    )


def _reading(found: Contributions) -> tuple[Words, ...]:
    lines: list[Words] = [
        "A model is of images and pairs, crossed: a pair's two features are compared in the same images. It takes "
        "pairs to differ as much in every layer, and what is a layer's own as one more difference between pairs. "
        "Resampled intervals let pairs differ more in some layers, and are of these layers. Of pairs that share a "
        "direction the model knows that direction's own effect; resampling keeps all that they have in common, so "
        "where many are shared it is the safer one.",
        "Intervals over new images hold for these features only. What a most active feature is depends on how "
        "activations are scaled, and neurons and directions compete in layers of other sizes (all neurons, all "
        "directions).",
        "At equal norm, layers share their images, and how their estimates move together is not known: over all "
        "layers the largest standard error that can be was taken.",
        "Reconstruction charges the dictionary's error at equal norm too, in the drop and in the norm.",
    ]
    matched = found.differences
    matched = matched[
        (matched["measure"] == "matched") & matched["layer"].isna() & (matched["quantity"] == "difference")
    ]
    for row in matched.to_dict(orient="records"):
        share = row["n_pairs"] / (row["n_pairs"] + row["left_out"])
        lines.append(
            prose(
                "Nulled by {0}, {1} of the directions' rows have a neuron of like norm ({2}); the others are not "
                "compared.",
                row["method"],
                percent(share),
                Link(f"table-contribution-layers-{row['method']}"),
            )
        )
    return tuple(lines)


def _forest_caption() -> str:
    return (
        "Every measure of whether distributed features contribute more, and of whether the difference moves towards "
        "them with depth."
    )


def _forest_alt(found: Contributions) -> str:
    parts = [
        f"{row['words']}, {row['method']}: {estimate(row)} {row['unit']}, {row['says']}"
        for row in found.verdicts.to_dict(orient="records")
    ]
    return f"Forest plot of {len(parts)} comparisons, distributed less local. {'; '.join(parts)}."


def _depth_alt(found: Contributions) -> str:
    layers = found.by_layer.sort_values("depth", kind="stable")
    first, last = layers["layer"].iloc[0], layers["layer"].iloc[-1]
    parts = []
    for (method, basis), rows in layers.groupby(["method", "representation"], sort=False, observed=True):
        ends = rows["estimate"].iloc[[0, -1]]
        parts.append(f"{method}, {basis}: from {number(ends.iloc[0])} to {number(ends.iloc[1])}")
    opening = f"Points and intervals by depth. Mean size of the change of the logit from {first} to {last}"
    return f"{opening}: {'; '.join(parts)}."


def _methods(found: Contributions) -> Sequence[str]:
    return [method for method in _BOTH if (found.by_layer["method"] == method).any()]


def _change(row: Row) -> dict[Any, Any]:
    return {"estimate": row["change"], "conf_low": row["change_low"], "conf_high": row["change_high"]}


def _unit(row: Row) -> str:
    return "times" if row["unit"] == LOG_RATIO else str(row["unit"])


def _cell(row: Row) -> str:
    """Print an estimate with its interval; of a log ratio, the ratio."""
    if row["unit"] != LOG_RATIO:
        return estimate(row)
    shown = [
        factor(float(np.exp(row[name]))) if np.isfinite(row[name]) else "–"
        for name in ("estimate", "conf_low", "conf_high")
    ]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"
