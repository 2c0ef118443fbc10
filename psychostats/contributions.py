"""Do distributed features contribute more to a network's decision? Two bases compared, paired, by every measure.

In: the tables of a features run (contributions, features, pairs, norm_matched, selectivity).  Out: tidy tables: a
hierarchical model of what nulling does to the logit, paired differences, and a verdict a measure.  Knows no file, no
figure and no document.

What is modelled is the *size* of the change of the logit, |drop|, with the signed drop beside it.  A feature that
speaks against the class contributes too, so the size is what the claim is about; but it follows the norm that is
removed, and noise alone has a size where its signed drop is zero.  Sizes of single images have heavy tails and spread
more in deep layers. Estimates are means over all images, so their standard errors come from how pairs differ, and from
what the images do that every pair shares.  The model takes pairs to differ as much in every layer; the bootstrap
beside it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from psychostats.contribution_measures import (
    JUDGED,
    MEASURES,
    carry_matched,
    compare_most_active,
    compare_paired,
    compare_selectivity,
    tidy_row,
)
from psychostats.effects import contrasts, interactions, marginal_means
from psychostats.fit import Fit, fit
from psychostats.intervals import Interval, row_of
from psychostats.nullings import Nullings, join
from psychostats.sentences import verdict

Says: TypeAlias = Literal["higher", "lower", "open", "unknown"]

_MODELS = {"size": "size", "within": "within", "signed": "drop"}


@dataclass(frozen=True)
class Contributions:
    """What nulling features of two bases does to the decision.

    Parameters
    ----------
    by_pair
        Means over images, one row a method, pair and basis: ``method, pair, layer, depth, representation, feature,
        shared, n_images, size, drop, within, standardised, norm, error``; logits, ``norm`` the L2 norm of what was
        removed, ``error`` the size of what the dictionary's reconstruction alone changes.
    by_layer
        Means over pairs and images of ``size`` with bootstrap intervals: ``method, layer, depth, representation``.
    fitted
        Marginal means of the model by method and response (`MEASURES`), ``representation`` and ``depth``.
    models
        One row a model: ``method, measure, formula, rows, converged, singular``.
    terms
        Their terms.
    differences
        Distributed minus local (of log ratios: over local): ``measure, selection, method, quantity`` (difference, or
        its change between the first and the last layer)``, layer, depth`` (null for all layers), ``n_pairs,
        n_clusters, n_images, left_out``, then estimate and interval, and ``over``, what the interval is over.
    selectivity
        Medians over features: ``method, layer, depth, representation, n, unbounded, negative, median``.
    verdicts
        One row a measure and method: the difference, its change with depth, and what they say.
    counts
        ``pairs, directions`` (distinct), ``clusters, images, layers``.
    interval
        As asked for; tables hold the kind that each measure has, at its probability.
    """

    by_pair: pd.DataFrame
    by_layer: pd.DataFrame
    fitted: pd.DataFrame
    models: pd.DataFrame
    terms: pd.DataFrame
    differences: pd.DataFrame
    selectivity: pd.DataFrame
    verdicts: pd.DataFrame
    counts: dict[str, int]
    interval: Interval


def compare_contributions(
    contributions: pd.DataFrame,
    features: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    norm_matched: pd.DataFrame | None = None,
    selectivity: pd.DataFrame | None = None,
    interval: Interval | None = None,
    replicates: int = 2000,
    seed: int = 1,
) -> Contributions:
    """Compare what nulling neurons and directions does to a network's decision.

    Parameters
    ----------
    contributions, features, pairs, norm_matched, selectivity
        Tables of a features run; of contributions, the methods subtract and reconstruct. Without one of the last two
        its measures are left out.
    interval
        Its probability is used: Wald for models, bootstrap for paired differences. Equal-norm estimates by layer keep
        the interval that their table has, 95 % over images.
    replicates, seed
        Of the bootstrap over clusters of pairs (those that share a direction) and images.

    Returns
    -------
    Contributions

    Raises
    ------
    InputError
        If a table lacks a column, ids do not join, or there is one basis only.

    Notes
    -----
    Per method, with y the size |drop| (or the drop, or |drop - residual|, which does not charge the dictionary's
    error)::

        y ~ representation * depth + (1 + representation | pair) + (1 + representation | image)

    by restricted maximum likelihood, and ``(1 | feature)`` where pairs share a direction, whose rows occur in each of
    its pairs. Where every pair has every image, the difference and its standard error are those of the pairs' mean
    differences (a paired t), widened by how images differ.

    Where pairs that share a direction have more in common than that direction's own effect, the model's interval is
    too narrow. With the bases of one run of the embedded study exchanged by chance (100 times; 48 pairs, 35
    directions; subtract), it left zero out in 2 % of exchanges of single pairs, but in 17 % of those of whole clusters;
    the bootstrap, which draws clusters, in 5 % and 8 %.
    """
    asked = interval or Interval()
    nullings = join(contributions, features, pairs)
    boot = Interval("bootstrap", asked.probability)
    modelled = [
        (method, measure, _model(nullings.fixed[nullings.fixed["method"] == method], _MODELS[measure], nullings))
        for method in nullings.methods
        for measure in _MODELS
        if measure != "within" or method == "reconstruct"  # subtracting never charges it
    ]
    wald = Interval("wald", asked.probability)
    found = [_of_model(made, measure, method, nullings, wald) for method, measure, made in modelled]
    paired = [compare_paired(nullings, method, boot, replicates, seed) for method in nullings.methods]
    found += [table for table, _ in paired]
    found += [compare_most_active(nullings, method, boot, replicates, seed) for method in nullings.methods]
    if norm_matched is not None:
        found.append(carry_matched(nullings, norm_matched, asked.probability))
    medians = pd.DataFrame()
    if selectivity is not None:
        medians, compared = compare_selectivity(nullings, selectivity, boot, replicates, seed)
        found.append(compared)
    differences = pd.concat([table for table in found if len(table)], ignore_index=True)
    about = [{"method": method, "measure": measure} for method, measure, _ in modelled]
    fits = [made for *_, made in modelled]
    return Contributions(
        by_pair=nullings.by_pair(),
        by_layer=pd.concat([table for _, table in paired], ignore_index=True),
        fitted=_labelled([_fitted(made, wald) for made in fits], about),
        models=pd.DataFrame([row | _about(made) for row, made in zip(about, fits, strict=True)]),
        terms=_labelled([made.terms(interval=wald) for made in fits], about),
        differences=differences,
        selectivity=medians,
        verdicts=judge(differences),
        counts=nullings.counts,
        interval=asked,
    )


def judge(differences: pd.DataFrame) -> pd.DataFrame:
    """Say of every measure and method which way it points.

    Parameters
    ----------
    differences
        As `Contributions.differences`.

    Returns
    -------
    DataFrame
        ``measure, words, method, unit``, the estimate with its interval, ``over``, ``says`` (higher or lower for
        distributed features, where the interval lies on one side of zero; open; unknown, where there is no interval),
        and the same of the change with depth under ``change``, ``change_low``, ``change_high``, ``says_change``.
    """
    whole = differences[differences["layer"].isna()]
    rows = []
    for measure in JUDGED:
        for method in ("subtract", "reconstruct"):
            part = whole[(whole["measure"] == measure) & (whole["method"] == method)]
            if part.empty:
                continue
            held = {str(row["quantity"]): row for row in part.to_dict(orient="records")}
            level, change = held["difference"], held["change"]
            words, unit, over = MEASURES[measure]
            names = ("estimate", "conf_low", "conf_high", "conf_level", "interval", "label")
            row = {"measure": measure, "words": words, "method": method, "unit": unit, **{n: level[n] for n in names}}
            row |= {"over": over, "says": _says(level), "change": change["estimate"]}
            row |= {"change_low": change["conf_low"], "change_high": change["conf_high"], "says_change": _says(change)}
            rows.append(row)
    return pd.DataFrame(rows)


def _says(row: Any) -> Says:
    if not np.isfinite([row["estimate"], row["conf_low"], row["conf_high"]]).all():
        return "unknown"
    found = verdict(row, negligible=False)
    return "open" if found == "equal" else found


def _model(rows: pd.DataFrame, response: str, nullings: Nullings) -> Fit:
    groups = ["(1 + representation | pair)"]
    if nullings.shared:
        groups.append("(1 | feature)")
    if nullings.counts["images"] > 1:
        groups.append("(1 + representation | image)")
    fixed = "representation * depth" if rows["depth"].nunique() > 1 else "representation"
    formula = f"{response} ~ {' + '.join([fixed, *groups])}"
    return fit(formula, rows, family="gaussian", engine="laplace", reml=True, progress=False)


def _about(made: Fit) -> dict[str, Any]:
    return {
        "formula": made.spec.formula.text,
        "rows": len(made.data),
        "converged": made.converged,
        "singular": ", ".join(made.likelihood["singular_terms"]),
    }


def _fitted(made: Fit, wald: Interval) -> pd.DataFrame:
    by = {"depth": sorted(made.data["depth"].unique())} if "depth" in made.data else None
    means = marginal_means(made, "representation", by=by, interval=wald)
    means = means[means["target"] == "population"]
    return means.assign(representation=means["term"].str.removeprefix("representation"), label=wald.label)


def _of_model(made: Fit, measure: str, method: str, nullings: Nullings, wald: Interval) -> pd.DataFrame:
    tables = {"difference": contrasts(made, "representation", interval=wald)}
    if "depth" in made.data:
        ends = [float(made.data["depth"].min()), float(made.data["depth"].max())]
        tables["change"] = interactions(made, "representation", "depth", ends, interval=wald)
    rows = []
    for quantity in ("difference", "change"):
        table = tables.get(quantity)
        summary = row_of(np.nan, np.nan, (np.nan, np.nan), wald)
        if table is not None and made.converged:  # of a fit that may not be read nothing is concluded
            # Of a Gaussian mean both targets are the same.
            one = table[(table["scale"] == "difference") & (table["target"] == "population")].iloc[0]
            summary = {name: one[name] for name in summary}
        rows.append(tidy_row(nullings, measure, method, quantity, summary, wald))
    return pd.DataFrame(rows)


def _labelled(tables: Sequence[pd.DataFrame], about: Sequence[dict[str, str]]) -> pd.DataFrame:
    return pd.concat([table.assign(**row) for table, row in zip(tables, about, strict=True)], ignore_index=True)
