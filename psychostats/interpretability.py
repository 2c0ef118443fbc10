"""How interpretable each feature is, and what share of the features is: from a fit's draws.

In: a `Fit` whose model has effects of pairs (or features).  Out: tidy tables, a row a feature or a share.  Knows no
figure and no sentence.

A feature is a level of *item* (a pair) in one level of *factor* (a basis).  Its interpretability is the probability
that a new participant is right about it: the feature's own effects as each draw has them, all others (participants',
stimuli's) averaged over their population by Gauss-Hermite nodes, so nothing is simulated.  Where the model tells
experiments apart, their probabilities are averaged with equal weight.

It is better than the feature's raw accuracy because it is shrunk: each feature is seen in some fifty trials, whose
chance moves its raw accuracy by several points, so the best feature of a raw ranking is partly the luckiest. The model
knows how much features differ at all, and draws each towards what others of its basis and depth are, the more the
less was seen of it (Efron and Morris 1977).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.columns import COLUMNS
from psychostats.effects import RESERVED
from psychostats.errors import InputError, nearest
from psychostats.fit import Fit
from psychostats.grid import predictors
from psychostats.intervals import Interval, summarise
from psychostats.level_draws import level_draws
from psychostats.levels import level_names
from psychostats.new_features import NewFeatures, variance_of
from psychostats.predictor import average, fixed_predictor, group_predictor, take_rows

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

#: Accuracy from which a feature is called interpretable, ``assumed``: half-way between chance and perfect.
THRESHOLD = 0.75

#: Columns of `feature_accuracy` that an interval fills.
_FIGURES = ("estimate", "sd", "conf_low", "conf_high", "conf_level", "interval")
#: Grouping factors whose levels are new when features are.
_ITEMS = ("pair", "feature", "stimulus")
#: Columns of the trial table that say something of a feature; the others are of a trial, even where they never change.
_OF_A_FEATURE = ("feature", "layer", "depth")
#: Draws times rows that are held at once.
_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Features:
    """The draws of every feature's interpretability, and what a new feature like it would have.

    Parameters
    ----------
    table
        A row a feature, in the order of `factor`'s levels and of the items' names: ``<item>, <factor>``, what was told
        of it (``feature, layer, depth, ...``), ``trials``, ``raw`` (share of right answers).
    factor, item
        Names of the two columns that make a feature.
    accuracy
        Probability of a right answer, shape ``(draws, features)``.
    above
        For a threshold, the probability that a new feature at the place of each lies above it, shape ``(draws,
        features)``; None where that has no closed form (effects of items that differ between experiments).
    """

    table: pd.DataFrame
    factor: str
    item: str
    accuracy: Array
    above: Callable[[float], Array] | None


def draw_features(
    fit: Fit, features: pd.DataFrame | None = None, *, factor: str = "representation", item: str = "pair", seed: int = 1
) -> Features:
    """Evaluate the interpretability of every feature in every draw.

    Parameters
    ----------
    fit
        A fit of right and wrong answers with effects of `item`; of a maximum, effects are drawn from the normal
        approximation around it (`psychostats.level_draws`).
    features
        Rows that tell more of the features, for example the trials: `item`, `factor`, and any columns; those that are
        constant within a feature are kept (``feature``, ``layer``, ``depth``, contributions).
    factor, item
        Columns that make a feature.
    seed
        Of a maximum's draws.

    Returns
    -------
    Features

    Raises
    ------
    InputError
        If the family has no right and wrong answers, the model no effects of `item`, or a column is missing.
    """
    _require(fit, factor, item)
    data, design = fit.data.reset_index(drop=True), fit.design
    levels = fit.coding.levels[factor]
    key = pd.MultiIndex.from_arrays([pd.Categorical(level_names(data[factor]), levels), level_names(data[item])])
    order = pd.MultiIndex.from_tuples(sorted(set(key), key=lambda one: (levels.index(one[0]), one[1])))
    feature = order.get_indexer(key)
    experiment = data["experiment"].to_numpy() if "experiment" in data else np.zeros(len(data))
    cell = pd.factorize(pd.MultiIndex.from_arrays([feature, experiment]))[0]

    own = [_constant(block.index, cell) for block in design.blocks]
    if not any(mine and item in bar.factors for mine, bar in zip(own, fit.spec.formula.bars, strict=True)):
        raise InputError(f"the model has no effects of {item} that are the same in all trials of a feature.")
    # Trials of a cell that no term of the model tells apart are evaluated once.
    parts = [cell, *(data[name] for name in predictors(fit)), design.offset]
    place, first = _distinct(parts)
    share = _shares(place, cell, feature, design.trials, len(order))

    rows, parameters = take_rows(design, first), level_draws(fit, seed=seed)
    kept = [k for k, mine in enumerate(own) if mine]
    others = [k for k in range(len(own)) if k not in kept]
    bars = fit.spec.formula.bars
    new = [k for k in kept if set(bars[k].factors) & {item, *_ITEMS}]
    family = fit.spec.family.at(parameters.family)

    def evaluated() -> Iterator[tuple[slice, Array, Array]]:
        for part in _slices(len(first), len(parameters.b)):
            piece = take_rows(rows, part)
            eta = fixed_predictor(piece.X, piece.offset, parameters.b)
            for k in kept:
                eta = eta + group_predictor(piece.blocks[k], parameters.r[k])
            yield part, eta, variance_of(piece.blocks, parameters, others)

    accuracy = np.zeros((len(parameters.b), len(order)))
    for part, eta, variance in evaluated():
        accuracy += average(family.mean, eta, variance) @ share[part]
    table = pd.DataFrame({item: order.get_level_values(1), factor: pd.Categorical(order.get_level_values(0), levels)})
    trials = np.bincount(feature, design.trials, len(order))
    raw = np.bincount(feature, design.successes, len(order)) / trials
    table = pd.concat([table, _told(fit, features, order, feature, factor, item)], axis=1)
    # One normal effect a feature, so that whether it is above a threshold is a matter of that effect alone.
    single = all(
        _constant(design.blocks[k].index, feature) and all(_constant(z, feature) for z in design.blocks[k].Z.T)
        for k in new
    )
    fixed_rows = [k for k in kept if k not in new]
    closed = NewFeatures(rows, parameters, family, share, new, others, fixed_rows) if single else None
    return Features(table.assign(trials=trials.astype(int), raw=raw), factor, item, accuracy, closed)


def feature_accuracy(
    fit: Fit | Features,
    features: pd.DataFrame | None = None,
    *,
    interval: Interval | None = None,
    threshold: float = THRESHOLD,
    **columns: Any,
) -> pd.DataFrame:
    """Summarise the posterior of every feature's interpretability.

    Parameters
    ----------
    fit
        A fit, or what `draw_features` made of it.
    features, columns
        See `draw_features`.
    interval
        Of draws; by default equal-tailed with the fit's probability.
    threshold
        Accuracy from which a feature is called interpretable.

    Returns
    -------
    DataFrame
        The columns of `Features.table`, then ``estimate`` (posterior mean: shrunk, see above), ``sd, conf_low,
        conf_high, conf_level, interval``, ``above`` (posterior probability that it is above the threshold) and
        ``threshold``.

    Raises
    ------
    InputError
        See `draw_features`; also if the threshold is not between 0 and 1.
    """
    found = fit if isinstance(fit, Features) else draw_features(fit, features, **columns)
    _require_threshold(threshold)
    how = interval or (Interval() if isinstance(fit, Features) else draws_interval(fit))
    rows = [summarise(values, how) for values in found.accuracy.T]
    figures = pd.DataFrame(rows)[list(_FIGURES)]
    above = (found.accuracy > threshold).mean(axis=0)
    return pd.concat([found.table, figures], axis=1).assign(above=above, threshold=threshold)


def share_above(
    fit: Fit | Features,
    threshold: float = THRESHOLD,
    features: pd.DataFrame | None = None,
    *,
    by: str | None = None,
    interval: Interval | None = None,
    **columns: Any,
) -> pd.DataFrame:
    """Estimate the share of features above a threshold in each basis, and how the bases differ.

    Parameters
    ----------
    fit, features, interval, columns
        As for `feature_accuracy`.
    threshold
        Accuracy from which a feature is called interpretable.
    by
        A column of the features within whose levels to ask too (``layer``, or what `depth_thirds` returns); the shares
        over all come first, with an empty `by`.

    Returns
    -------
    DataFrame
        ``<factor>`` (None for differences), ``contrast`` (None for shares), `by` if given, ``target``, ``features``
        (how many), ``threshold``, the columns of an interval, and of differences ``pd``. Target ``studied``: the share
        among these features, per draw their count over their number; ``new``: the probability for a new feature at
        the same depths, per draw that of the normal law of the pairs' effects. The latter's interval is of the
        probability, not of a share among so and so many features.

    Raises
    ------
    InputError
        As for `feature_accuracy`; also if `by` is no column of the features.
    """
    found = fit if isinstance(fit, Features) else draw_features(fit, features, **columns)
    _require_threshold(threshold)
    if by is not None and by not in found.table:
        raise InputError(f"'{by}' is no column of the features{nearest(by, map(str, found.table.columns))}.")
    how = interval or (Interval() if isinstance(fit, Features) else draws_interval(fit))
    targets = {"studied": (found.accuracy > threshold).astype(float)}
    if found.above is not None:
        targets["new"] = found.above(threshold)
    table, rows = found.table, []
    levels = [str(level) for level in table[found.factor].cat.categories]
    for place, here in _places(table, by):
        at = {} if by is None else {by: place}
        for target, values in targets.items():
            shares: dict[str, tuple[int, Array]] = {}
            for level in levels:
                mine = here & (table[found.factor] == level).to_numpy()
                if mine.any():
                    shares[level] = (int(mine.sum()), values[:, mine].mean(axis=1))
            common = {**at, "target": target, "threshold": threshold}
            for level, (count, draws) in shares.items():
                rows.append({found.factor: level, "contrast": None, **common, "features": count, **_of(draws, how)})
            for (a, (m, first)), (b, (n, second)) in combinations(shares.items(), 2):
                figures = _of(second - first, how, null=0.0)
                rows.append({found.factor: None, "contrast": f"{b} - {a}", **common, "features": m + n, **figures})
    return pd.DataFrame(rows)


def depth_thirds(table: pd.DataFrame, depth: str = "depth") -> pd.Series[Any]:
    """Return for each feature whether its depth is in the ``early``, ``middle`` or ``late`` third of the features.

    Features of one depth stay together: each depth goes to the third in which the middle of its features lies.

    Raises
    ------
    InputError
        If the table has no such column.
    """
    if depth not in table:
        raise InputError(f"the features have no column '{depth}', so no thirds of it.")
    middle = table[depth].rank(method="average", pct=True) - 0.5 / len(table)
    names = ["early", "middle", "late"]
    third = [names[int(min(3 * one, 2))] for one in middle]
    return pd.Series(pd.Categorical(third, names), index=table.index)


def rank_features(table: pd.DataFrame, n: int, *, factor: str = "representation") -> pd.DataFrame:
    """Return the n best and the n worst features of each basis.

    Parameters
    ----------
    table
        Of `feature_accuracy`.
    n
        How many at each end; fewer where a basis has fewer than 2 n, so that none is both.
    factor
        Column of the bases.

    Returns
    -------
    DataFrame
        The table's rows behind ``end`` (``best`` or ``worst``) and ``rank`` (1 is the very best, or worst). Order: by
        posterior mean; ties by the lower limit, then by name, so that the order of rows decides nothing.
    """
    if n < 1:
        raise InputError(f"the {n} best features are asked for; at least 1 is needed.")
    item = str(table.columns[0])
    parts = []
    for _, group in table.groupby(factor, observed=True, sort=True):
        most = min(n, len(group) // 2) or 1
        ordered = group.sort_values(item, kind="stable")
        ordered = ordered.sort_values(["estimate", "conf_low"], ascending=False, kind="stable")
        ends = {"best": ordered.head(most), "worst": ordered.iloc[::-1].head(min(most, len(group) - most))}
        for end, rows in ends.items():
            front = pd.DataFrame({"end": end, "rank": np.arange(1, len(rows) + 1)})
            parts.append(pd.concat([front, rows.reset_index(drop=True)], axis=1))
    return pd.concat(parts, ignore_index=True)


def draws_interval(fit: Fit) -> Interval:
    """Return the interval of a quantity that is drawn: the fit's own, or equal-tailed where that is none of draws."""
    own = fit.interval
    return own if own.kind in ("eti", "hdi") else Interval("eti", own.probability)


def _require(fit: Fit, factor: str, item: str) -> None:
    if not fit.spec.family.binary:
        raise InputError(
            f"interpretability is a probability of right answers, which the family {fit.spec.family.name} has not."
        )
    if factor not in fit.coding.levels:
        raise InputError(f"'{factor}' is no factor of the model; its factors are {', '.join(fit.coding.levels)}.")
    groups = fit.spec.formula.groups
    if not any(item in bar.factors for bar in fit.spec.formula.bars):
        raise InputError(
            f"the model '{fit.spec.formula.text}' has no effects of {item}, so it knows of no single {item}; its group "
            f"effects are of {', '.join(groups) or 'nothing'}. Add (1 + {factor} | {item})."
        )
    if item not in fit.data:
        raise InputError(f"'{item}' is no column of the trials that were fitted.")


def _require_threshold(threshold: float) -> None:
    if not 0.0 < threshold < 1.0:
        raise InputError(f"the threshold {threshold} is no accuracy between 0 and 1.")


def _constant(values: npt.NDArray[Any], cell: Index) -> bool:
    """Whether values are the same in all rows of each cell."""
    first = np.zeros(cell.max() + 1, dtype=np.int64)
    first[cell[::-1]] = np.arange(len(cell))[::-1]
    return bool(np.array_equal(values, values[first[cell]]))


def _distinct(columns: Sequence[Any]) -> tuple[Index, Index]:
    """Return the place of each row among the distinct ones, and a row for each of those."""
    place = np.asarray(pd.factorize(pd.MultiIndex.from_arrays(columns), sort=True)[0])
    return place, np.unique(place, return_index=True)[1]


def _shares(place: Index, cell: Index, feature: Index, trials: Array, features: int) -> Array:
    """Return the weight of each distinct row in each feature: by trials within an experiment, experiments alike."""
    in_cell = np.bincount(cell, trials)
    of_feature = np.zeros(len(in_cell), dtype=np.int64)
    of_feature[cell] = feature
    experiments = np.bincount(of_feature, minlength=features)
    weight = np.zeros((place.max() + 1, features))
    np.add.at(weight, (place, feature), trials / (in_cell[cell] * experiments[feature]))
    return weight


def _slices(rows: int, draws: int) -> Iterator[slice]:
    step = max(1, _AT_ONCE // max(1, draws))
    yield from (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _told(
    fit: Fit, features: pd.DataFrame | None, order: pd.MultiIndex, feature: Index, factor: str, item: str
) -> pd.DataFrame:
    """Return what the trials that were fitted, and `features`, say of each feature and hold constant within it."""
    sources = [(fit.data.reset_index(drop=True), feature)]
    if features is not None:
        for name in (item, factor):
            if name not in features:
                raise InputError(f"the features lack the column '{name}'; they have {', '.join(map(str, features))}.")
        keys = pd.MultiIndex.from_arrays([level_names(features[factor]), level_names(features[item])])
        at = order.get_indexer(keys)
        if not set(range(len(order))) <= set(at):
            missing = order[next(k for k in range(len(order)) if k not in set(at))]
            raise InputError(f"the features lack {item} '{missing[1]}' in {factor} '{missing[0]}'.")
        sources.append((features.loc[at >= 0].reset_index(drop=True), at[at >= 0]))
    told: dict[str, pd.Series[Any]] = {}
    for frame, place in sources:
        first = pd.Series(np.arange(len(frame))).groupby(place).first()
        for name in map(str, frame.columns):
            # What is found of a feature has columns of its own, such as its sd.
            of_a_trial = (name in COLUMNS and name not in _OF_A_FEATURE) or name in RESERVED
            if of_a_trial or name in (item, factor, *fit.spec.formula.response.columns, *told):
                continue
            codes = pd.factorize(frame[name])[0]
            if (codes >= 0).any() and _constant(codes, np.asarray(place)):
                told[name] = frame[name].iloc[first.to_numpy()].reset_index(drop=True)
    return pd.DataFrame(told)


def _places(table: pd.DataFrame, by: str | None) -> Iterator[tuple[Any, npt.NDArray[np.bool_]]]:
    """Yield all features, then those of each level of a column, in its order."""
    yield None, np.ones(len(table), dtype=bool)
    if by is None:
        return
    column = table[by]
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = [level for level in column.cat.categories if (column == level).any()]
    else:
        levels = sorted(column.dropna().unique())
    yield from ((level, (column == level).to_numpy()) for level in levels)


def _of(draws: Array, interval: Interval, null: float | None = None) -> dict[str, Any]:
    figures = summarise(draws, interval, null=null)
    return {name: figures[name] for name in (*_FIGURES, "pd")}
