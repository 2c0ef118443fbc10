"""The stimuli themselves in the report: a trial of each experiment as participants saw it, features with their images.

In: an `Analysis` of trials that a features run was shown in.  Out: grids of pictures.  Computes no statistic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from psychostats.analysis import Analysis
from psychostats.document import Block, Code, Grid, Heading, Link, Panel, Paragraph, Picture, Words, prose
from psychostats.features import FeaturesRun
from psychostats.measure import number, percent

_SQUARE = 3
"""Pictures to a line of a reference grid on a trial."""


def show_trials(analysis: Analysis) -> list[Block]:
    """Return the section with one trial of each experiment and basis, all of one pair; none without a features run."""
    run = analysis.run
    if run is None or not run.has("pictures"):
        return []
    factor = analysis.study.effects.factor
    kept = analysis.excluded.kept
    pair = _choose_pair(kept)
    rows: list[tuple[Words | Panel, ...]] = []
    stimuli = run.table("stimuli").set_index("stimulus")
    for (experiment, level), part in kept[kept["pair"] == pair].groupby(["experiment", factor], observed=True):
        # The stimulus that most people saw, and of those seen alike the first by its id.
        seen = part["stimulus"].value_counts().sort_index(kind="stable").sort_values(ascending=False, kind="stable")
        name = str(seen.index[0])
        one = stimuli.loc[name]
        feature = str(part["feature"].iloc[0])
        least, most = (list(one[column]) for column in ("references_min", "references_max"))
        queries = [str(one[name]) for name in ("query_target", "query_distractor")]
        rows.append(
            (
                f"{experiment}, {level}",
                Panel(_pictures(run, least, f"reference that drives {feature} least"), _SQUARE),
                Panel(_pictures(run, queries, f"query of {feature}"), 1),
                Panel(_pictures(run, most, f"reference that drives {feature} most"), _SQUARE),
            )
        )
    layer = f" of layer {kept.loc[kept['pair'] == pair, 'layer'].iloc[0]}" if "layer" in kept else ""
    generated = set(run.table("images")["kind"].dropna()) & {"generated"} if "kind" in run.table("images") else set()
    return [
        Heading("What participants saw", 1, "stimuli"),
        Paragraph(
            prose(
                "On each trial a participant saw images that drive a feature least and images that drive it most, and "
                "said which of two queries goes with the latter. {0} shows a trial of each experiment for one pair{1}, "
                "the one of median accuracy there: a neuron and the direction matched with it.{2}",
                Link("figure-trials"),
                layer,
                " The images are generated scenes, whose elements are known." if generated else "",
            )
        ),
        Grid(
            tuple(rows),
            "Trials as participants saw them. Of the two queries the upper is the one that drives the feature; on a "
            "trial, which side it stood on was drawn.",
            "For each experiment and basis: references that drive a feature least, two queries, references that drive "
            "it most.",
            heads=("", "Weakest references", "Queries", "Strongest references"),
            anchor="figure-trials",
        ),
    ]


def _choose_pair(kept: pd.DataFrame) -> str:
    """Return the pair of the deepest layer whose accuracy is the median of that layer's, so that none is picked."""
    deepest = kept[kept["depth"] == kept["depth"].max()] if "depth" in kept else kept
    accuracy = deepest.groupby("pair", observed=True)["correct"].mean().sort_values(kind="stable")
    return str(accuracy.index[len(accuracy) // 2])


def _pictures(run: FeaturesRun, images: Iterable[str], words: str) -> tuple[Picture, ...]:
    return tuple(Picture(run.pictures[image], f"{words} ({image})") for image in images)


def show_features(analysis: Analysis, ranked: pd.DataFrame, *, caption: Words, anchor: str) -> list[Block]:
    """Return features with the images that drive them most, a row each, in the order given.

    Parameters
    ----------
    analysis
        With the features run that was shown.
    ranked
        ``feature, representation, estimate, conf_low, conf_high``, and ``layer`` where it is known.
    caption, anchor
        Of the grid.
    """
    run = analysis.run
    if run is None or not run.has("pictures") or ranked.empty or "feature" not in ranked:
        return []
    shown = _best_images(run)
    rows = [row for row in ranked.to_dict("records") if row["feature"] in shown]
    cells: list[tuple[Words | Panel, ...]] = []
    for row in rows:
        images = shown[row["feature"]]
        where = f"{row['end']} {row['rank']}: " if "end" in row else ""
        # The network goes before the layer in a feature's id; in a table of one network it says nothing.
        name = str(row["feature"]).partition("/")[2] or str(row["feature"])
        cells.append(
            (
                prose("{0}{1}, {2}", where, str(row[analysis.study.effects.factor]), Code(name)),
                Panel(_pictures(run, images, f"reference that drives {row['feature']} most"), len(images)),
                f"{percent(row['estimate'])} [{number(100 * row['conf_low'], 0)}, {number(100 * row['conf_high'], 0)}]",
            )
        )
    if not cells:
        return []
    return [
        Grid(
            tuple(cells),
            caption,
            "Features in rows: basis and layer, the images that drive the feature most, and its estimated accuracy.",
            heads=("Feature", "Strongest references of one trial", "Accuracy"),
            aligns=("left", "left", "right"),
            anchor=anchor,
        )
    ]


def _best_images(run: FeaturesRun) -> dict[str, list[str]]:
    """Return the references of each feature's first main stimulus, of the first experiment."""
    return dict(_first(run.table("stimuli")))


def _first(stimuli: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    main = stimuli[(stimuli["phase"] == "main") & ~stimuli["catch"].astype(bool) & stimuli["feature"].notna()]
    for row in main.drop_duplicates("feature").to_dict("records"):
        yield str(row["feature"]), list(row["references_max"])
