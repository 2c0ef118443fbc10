"""Several fits of the same trials side by side.

In: fits by name, all draws or all maxima of the likelihood.  Out: one table, or a sentence that says why the fits
cannot be compared.  Draws: how well each predicts what was left out (`psychostats.loo`, or `psychostats.kfold`).
Maxima: AIC, BIC and likelihood-ratio tests, as R's ``anova`` has them.  Knows nothing of how a fit was made, nor of
files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations, pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats

from psychostats.design import Block, Design
from psychostats.errors import InputError
from psychostats.executors import Executor
from psychostats.fit import Fit
from psychostats.kfold import Folded, kfold
from psychostats.loo import TRIAL, Loo, loo, standard_error, unit_labels, unknown_unit
from psychostats.maximum import Method
from psychostats.sentences import say_bad_k, say_folds, say_prediction, say_question

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

# A chi-squared that the optimisers' tolerances, 1e-10 of each log-likelihood, can make of none.
_NOTHING = 1e-8

COMPARISON_COLUMNS = (
    "model",
    "formula",
    "family",
    "df",
    "logLik",
    "AIC",
    "BIC",
    "delta_AIC",
    "weight_AIC",
    "against",
    "chisq",
    "chisq_df",
    "p_value",
    "boundary",
    "p_boundary",
)
PREDICTION_COLUMNS = (
    "model",
    "formula",
    "family",
    "elpd",
    "se",
    "elpd_diff",
    "se_diff",
    "p_loo",
    "bad_k",
    "weight_stacking",
    "unit",
)


def compare(
    fits: Mapping[str, Fit],
    *,
    unit: str = TRIAL,
    folds: int | None = None,
    seed: int = 1,
    progress: Callable[[str, int, int], None] = lambda name, done, folds: None,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Compare fits of the same trials.

    Parameters
    ----------
    fits
        By name, two or more: maxima of the likelihood (engine laplace), or draws.
    unit
        For draws, what is left out in turn: ``trial``, or a grouping factor of the models, as ``participant``.
    folds
        For draws, leave out so many folds of units and fit every model again without each (`psychostats.kfold`),
        the same folds for all, instead of leaving one out by importance sampling.
    seed
        Of the folds.
    progress
        Called with the model's name, how many folds are done and their number, after each refit.
    executor
        Who fits again without a fold, `psychostats.executors`; this process by default.

    Returns
    -------
    DataFrame
        For draws, columns `PREDICTION_COLUMNS`, the best model first. ``elpd`` is the log predictive density of all
        units, each given the others; ``elpd_diff`` that minus the best model's, with its standard error over units,
        ``p_loo`` the effective number of parameters, ``bad_k`` how many Pareto's k are above
        `psychostats.loo.Loo.threshold`, ``weight_stacking`` the share of each model in the mixture that predicts best
        (Yao et al. 2018). ``attrs["notes"]`` says in sentences what it shows. By folds, ``bad_k`` is NaN, and
        ``attrs["kfold"]`` holds ``folds, seed, unit``, the fold of each level (None for trials: `seed` gives it) and,
        by model, the folds whose refit did not converge.

        For maxima, columns `COMPARISON_COLUMNS`, the model with the fewest parameters first. ``delta_AIC`` is to the
        smallest AIC, ``weight_AIC`` exp(-delta / 2) as a share of the sum (Akaike weights). A model that holds the one
        before as a special case is tested ``against`` it: ``chisq`` is twice the difference in log-likelihood,
        ``p_value`` its chi-squared tail with ``chisq_df`` degrees of freedom. Where the smaller model fixes an SD at
        zero, ``boundary`` names it: zero is the end of its range, so ``p_value`` is too large; ``p_boundary`` is the
        tail of the equal mixture of chi-squared laws with ``chisq_df - 1`` and ``chisq_df`` degrees, which holds where
        one term was added (Stram and Lee 1994), else NaN.

    Raises
    ------
    InputError
        If there are fewer than two fits, or they do not compare: draws beside a maximum, other rows, trials beside
        counts, a measurement beside answers, REML beside ML or with other fixed parts, Laplace's approximation beside
        quadrature; or if the unit is unknown.
    """
    if len(fits) < 2:
        raise InputError("a comparison needs two fits at least.")
    drawn = _are_draws(fits)
    for (first, one), (name, other) in combinations(fits.items(), 2):
        reason = _incomparable(one, other) or ("" if drawn else _taken_otherwise(one, other))
        if reason:
            raise InputError(f"{first} and {name} cannot be compared: {reason}.")
    if drawn:
        return _compare_predictions(fits, unit, folds, seed, progress, executor)
    if folds is not None:
        raise InputError("AIC leaves nothing out, so folds are for fits that hold draws; fit with --engine pymc.")
    if unit != TRIAL:
        raise InputError(
            f"AIC leaves nothing out, so the unit {unit} is for fits that hold draws; fit again with --engine pymc."
        )
    return _compare_maxima(fits)


def _compare_maxima(fits: Mapping[str, Fit]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name, fit in sorted(fits.items(), key=lambda item: (item[1].likelihood["df"], -item[1].likelihood["logLik"])):
        rows.append({"model": name, "formula": fit.spec.formula.whole, "family": fit.spec.family.describe()})
        rows[-1] |= {key: fit.likelihood[key] for key in ("df", "logLik", "AIC", "BIC")}
    for smaller, larger in pairwise(rows):
        larger |= _test(smaller, larger, fits[smaller["model"]], fits[larger["model"]])
    table = pd.DataFrame(rows)
    delta = table["AIC"] - table["AIC"].min()
    weight = np.exp(-0.5 * delta)
    table = table.assign(delta_AIC=delta, weight_AIC=weight / weight.sum())
    return table.reindex(columns=list(COMPARISON_COLUMNS))


def _compare_predictions(
    fits: Mapping[str, Fit],
    unit: str,
    folds: int | None,
    seed: int,
    progress: Callable[[str, int, int], None],
    executor: Executor | None,
) -> pd.DataFrame:
    places = _matched(fits)
    labels = _labels(fits, places, unit)
    # Trials are put into folds in the order of their values, so that folds do not depend on the order of rows.
    ranks = np.argsort(_sorted(fits[_widest(fits)].data))
    found: dict[str, Loo] = {}
    for name, fit in fits.items():
        own = None if labels is None else labels[name]
        if folds is None:
            found[name] = loo(fit, unit, labels=own)
            continue
        position = ranks[np.argsort(places[name])]
        said = partial(progress, name)
        how: dict[str, Any] = {"progress": said, "executor": executor}
        found[name] = kfold(fit, unit, folds, seed=seed, labels=own, position=position, **how)
    pointwise = {name: _in_order(found[name], places[name]) for name in fits}
    weights = stacking_weights(np.stack(list(pointwise.values()), axis=1))
    best = max(found, key=lambda name: found[name].elpd)
    rows: list[dict[str, Any]] = [
        {
            "model": name,
            "formula": fit.spec.formula.whole,
            "family": fit.spec.family.describe(),
            "elpd": found[name].elpd,
            "se": found[name].se,
            "elpd_diff": float((pointwise[name] - pointwise[best]).sum()) if name != best else 0.0,
            "se_diff": standard_error(pointwise[name] - pointwise[best]) if name != best else 0.0,
            "p_loo": found[name].p_loo,
            "bad_k": int(found[name].bad.sum()) if folds is None else float("nan"),
            "weight_stacking": float(weight),
            "unit": unit,
        }
        for (name, fit), weight in zip(fits.items(), weights, strict=True)
    ]
    rows.sort(key=lambda row: (row["model"] != best, -row["elpd_diff"]))
    table = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
    groups = dict.fromkeys(block.group for fit in fits.values() for block in fit.design.blocks)
    question = say_question(
        unit, list(groups), laplace=any(one.laplace for one in found.values()), folds=folds is not None
    )
    table.attrs["notes"] = [question, *say_prediction(rows)]
    if folds is None:
        table.attrs["notes"] += say_bad_k(rows, {name: (one.threshold, len(one.k)) for name, one in found.items()})
        return table
    folded = {name: one for name, one in found.items() if isinstance(one, Folded)}
    failed = {name: one.failed for name, one in folded.items()}
    table.attrs["notes"] += say_folds(folds, seed, failed)
    one = next(iter(folded.values()))
    table.attrs["kfold"] = {
        "folds": folds,
        "seed": seed,
        "unit": unit,
        "levels": None if unit == TRIAL else dict(zip(one.labels, one.fold.tolist(), strict=True)),
        "not_converged": {name: list(numbers) for name, numbers in failed.items()},
    }
    return table


def stacking_weights(pointwise: Array) -> Array:
    """Return the weights of the mixture of models that predicts the left-out units best.

    Parameters
    ----------
    pointwise
        Log predictive density of each unit by each model, shape ``(units, models)``.

    Returns
    -------
    ndarray
        Weights from 0 that sum to 1, with the largest sum of log(sum over models of weight density). That is concave,
        so there is one optimum. Source: Yao, Vehtari, Simpson and Gelman (2018).
    """
    density = np.exp(pointwise - pointwise.max(axis=1, keepdims=True))
    models = density.shape[1]

    def loss(weight: Array) -> tuple[float, Array]:
        mixed = np.maximum(density @ weight, np.finfo(float).tiny)
        return -float(np.log(mixed).mean()), -(density / mixed[:, np.newaxis]).mean(axis=0)

    one: Any = {"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": lambda w: np.ones(models)}
    answer = optimize.minimize(
        loss,
        np.full(models, 1.0 / models),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * models,
        constraints=one,
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    weight = np.clip(answer.x, 0.0, 1.0)
    return np.asarray(weight / weight.sum())


def _widest(fits: Mapping[str, Fit]) -> str:
    """Return the name of the fit that knows most columns of the trials."""
    return max(fits, key=lambda name: len(fits[name].data.columns))


def _matched(fits: Mapping[str, Fit]) -> dict[str, Index]:
    """Return for each fit which of its rows is each row of the fit that knows most columns.

    Rows that a fit cannot tell apart it predicts alike, so that any match of them will do.
    """
    most = _widest(fits)
    places = {}
    for name, fit in fits.items():
        shared = [column for column in fit.data.columns if column in fits[most].data.columns]
        one, other = fit.data[shared], fits[most].data[shared]
        places[name] = np.arange(len(one))
        if _in_one_order(one, other):
            continue
        if len(shared) < len(fit.data.columns):
            raise InputError(
                f"{name} and {most} cannot be compared: their rows are in another order, and the columns they share "
                f"({', '.join(shared)}) do not tell which is which; fit both to the same file."
            )
        places[name][_sorted(other)] = _sorted(one)
    return places


def _labels(fits: Mapping[str, Fit], places: Mapping[str, Index], unit: str) -> dict[str, Any] | None:
    """Return the level of the unit in each row of every fit, as the first model that groups by it has it."""
    if unit == TRIAL:
        return None
    groups = [block.group for fit in fits.values() for block in fit.design.blocks]
    if unit not in groups:
        raise unknown_unit(unit, groups)
    knows = next(name for name, fit in fits.items() if unit in [block.group for block in fit.design.blocks])
    levels = unit_labels(fits[knows], unit)[places[knows]]
    return {name: levels[np.argsort(place)] for name, place in places.items()}


def _in_order(found: Loo, place: Index) -> Array:
    """Return pointwise values in the order in which all fits' units agree; levels are sorted by name already."""
    if found.unit != TRIAL:
        return found.elpd_i
    return found.elpd_i[np.argsort(np.argsort(place)[found.rows], kind="stable")]


def _are_draws(fits: Mapping[str, Fit]) -> bool:
    """Whether the fits are draws, not maxima; refuse both beside one another."""
    drawn = [name for name, fit in fits.items() if not fit.is_maximum]
    if drawn and len(drawn) < len(fits):
        maximum = next(name for name in fits if name not in drawn)
        raise InputError(
            f"{drawn[0]} holds draws from a posterior and {maximum} a maximum of the likelihood: LOO of the one and "
            "AIC of the other are on different scales; fit both with the same engine."
        )
    return bool(drawn)


def _incomparable(one: Fit, other: Fit) -> str:
    """Return why two fits are not of the same trials; empty where they are."""
    a, b = one.spec.formula.response, other.spec.formula.response
    if a.counts != b.counts:
        return "one models single trials and the other counts, whose likelihoods differ by a constant"
    if a != b:
        return f"they model other responses, {', '.join(a.columns)} and {', '.join(b.columns)}"
    words = {"answers": "answers", "number": "measurements", "positive": "measurements", "rating": "ratings"}
    first, second = (words[fit.spec.family.response] for fit in (one, other))
    if first != second:
        return f"one models {first} and the other {second}"
    if len(one.data) != len(other.data):
        return f"they were fitted to {len(one.data):,} and {len(other.data):,} rows; a comparison is of the same trials"
    shared = [name for name in one.data.columns if name in other.data.columns]
    if not _same_rows(one.data[shared], other.data[shared]):
        return f"they were fitted to other trials (their columns {', '.join(shared)} differ)"
    return ""


def _taken_otherwise(one: Fit, other: Fit) -> str:
    """Return why the likelihoods of two maxima cannot be compared; empty where they can."""
    how, what = one.settings, other.settings
    assert isinstance(how, Method) and isinstance(what, Method)
    if how.reml != what.reml:
        return "one was fitted by REML and the other by maximum likelihood"
    if how.reml and not (one.design.names == other.design.names and np.allclose(one.design.X, other.design.X)):
        return "their fixed parts differ, and REML likelihoods are of other data then; fit both without --reml"
    if how.quadrature != what.quadrature:
        ways = [
            f"{n} nodes of quadrature" if n > 1 else "Laplace's approximation"
            for n in (how.quadrature, what.quadrature)
        ]
        return f"one likelihood was taken by {ways[0]} and the other by {ways[1]}"
    return ""


def _same_rows(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two tables hold the same rows, in any order."""
    if _in_one_order(one, other):
        return True
    a, b = (table.astype(str).iloc[_sorted(table)].reset_index(drop=True) for table in (one, other))
    return a.equals(b)


def _sorted(table: pd.DataFrame) -> Index:
    """Return the rows' places in the order of all columns as text."""
    text = table.astype(str).reset_index(drop=True)
    return text.sort_values(list(text.columns), kind="stable").index.to_numpy()


def _in_one_order(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return all(np.array_equal(one[name].to_numpy(), other[name].to_numpy()) for name in one.columns)


def _test(smaller: Mapping[str, object], larger: Mapping[str, object], one: Fit, other: Fit) -> dict[str, object]:
    """Return the likelihood-ratio test of a model against a smaller one; nothing where they are not nested."""
    df = int(other.likelihood["df"] - one.likelihood["df"])
    design = _aligned(one, other)
    if df <= 0 or design is None or not _nested(one, other, design):
        return {}
    # A larger model fits no worse, and less than the optimisers' tolerance between them is nothing.
    chisq = 2.0 * (other.likelihood["logLik"] - one.likelihood["logLik"])
    chisq = chisq if chisq > _NOTHING else 0.0
    found: dict[str, object] = {
        "against": smaller["model"],
        "chisq": chisq,
        "chisq_df": df,
        "p_value": float(stats.chi2.sf(chisq, df)),
    }
    added = _at_zero(design.blocks, other.design.blocks)
    if added:
        found["boundary"] = ", ".join(added)
        if len(added) == 1 and len(design.names) == len(other.design.names):
            below = stats.chi2.sf(chisq, df - 1) if df > 1 else float(chisq <= 0)
            found["p_boundary"] = float(0.5 * below + 0.5 * stats.chi2.sf(chisq, df))
    return found


def _at_zero(smaller: Iterable[Block], larger: Sequence[Block]) -> list[str]:
    """Return the SDs of a model that a smaller one fixes at zero: of columns that none of its own are made of."""
    held: dict[int, list[Array]] = {}
    for part in smaller:
        place = next(i for i, block in enumerate(larger) if _leaves_free(block, part))
        held.setdefault(place, []).append(part.Z)
    found = []
    for i, block in enumerate(larger):
        Z = np.concatenate(held.get(i, [np.zeros((len(block.Z), 0))]), axis=1)
        shares = np.linalg.lstsq(block.Z, Z, rcond=None)[0]
        unused = (np.abs(shares) <= 1e-8 * np.abs(shares).max(initial=0.0)).all(axis=1)
        found += [f"sd_{block.group}__{term}" for term, none in zip(block.terms, unused, strict=True) if none]
    return sorted(found)


def _aligned(one: Fit, other: Fit) -> Design | None:
    """Return the design of the first model with its rows in the order of the second's; None where that is unknown."""
    shared = [name for name in one.data.columns if name in other.data.columns]
    if _in_one_order(one.data[shared], other.data[shared]):
        return one.design
    # The same rows in another order: coded anew on those of the other model, where they have all its columns.
    if len(shared) < len(one.data.columns):
        return None
    return one.coding.design(other.data, other.spec.family.response)


def _nested(one: Fit, other: Fit, design: Design) -> bool:
    """Whether the first model, with its rows in the second's order, is a special case of the second."""
    if one.spec.family != other.spec.family or not np.allclose(design.offset, other.design.offset):
        return False
    return _spans(other.design.X, design.X) and all(
        any(_leaves_free(block, part) for block in other.design.blocks) for part in design.blocks
    )


def _leaves_free(block: Block, part: Block) -> bool:
    """Whether a block leaves the covariance of a smaller one free."""
    if block.group != part.group or not _spans(block.Z, part.Z):
        return False
    if block.structure == "correlated" or len(part.terms) == 1 == len(block.terms):
        return True
    return part.structure != "correlated" and all(
        any(_spans(wide[:, np.newaxis], narrow[:, np.newaxis]) for wide in block.Z.T) for narrow in part.Z.T
    )


def _spans(wide: Array, narrow: Array) -> bool:
    """Whether every column of `narrow` is a combination of those of `wide`."""
    size = np.maximum(np.linalg.norm(wide, axis=0), np.finfo(float).tiny)
    left = narrow - wide / size @ np.linalg.lstsq(wide / size, narrow, rcond=None)[0]
    return bool(np.all(np.linalg.norm(left, axis=0) <= 1e-8 * np.linalg.norm(narrow, axis=0)))
