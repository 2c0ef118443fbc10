"""A formula and a table of trials into coded design matrices, named as R's model.matrix names them.

In: a `Formula` and a data frame.  Out: a `Coding`, which remembers levels, centres and bases learned from that frame and
codes any further rows the same way, and the `Design` of the frame itself.  Knows no family, prior or sampler.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.linalg
from formulaic import Formula as Terms
from formulaic import ModelSpec as TermsSpec
from formulaic.errors import FormulaicError

from psychostats.errors import FormulaError, InputError, nearest
from psychostats.formula import CODINGS, Bar, Formula

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

# The only names a formula can reach beyond columns and the library's own transforms; formula.py lets no others through.
_CALLS = {"sqrt": np.sqrt}


@dataclass(frozen=True)
class Block:
    """The matrices of one group effect, ``(terms | group)``.

    Parameters
    ----------
    group
        Name of the grouping factor.
    terms
        Names of the columns of `Z`, as R names them without parentheses (``Intercept``).
    correlated
        Whether the columns' effects have a full covariance matrix.
    levels
        Names of the group's levels; nested levels are joined by colons.
    Z
        Columns of the left side, shape ``(rows, terms)``.
    index
        For each row, the place of its level in `levels`, shape ``(rows,)``; -1 for a level that was not seen.
    """

    group: str
    terms: tuple[str, ...]
    correlated: bool
    levels: tuple[str, ...]
    Z: Array
    index: Index

    @property
    def structure(self) -> str:
        """How the covariance is fitted: ``correlated``, ``independent`` or ``single``."""
        if len(self.terms) == 1:
            return "single"
        return "correlated" if self.correlated else "independent"


@dataclass(frozen=True)
class Design:
    """What a model is fitted to.

    Parameters
    ----------
    names
        Names of the columns of `X`, as R's model.matrix names them, without parentheses around ``Intercept``.
    X
        Fixed part, shape ``(rows, columns)``.
    offset
        Known part of the linear predictor, shape ``(rows,)``.
    blocks
        Group effects.
    successes, trials
        Response as counts, each of shape ``(rows,)``; one trial a row where the response is 0/1.
    """

    names: tuple[str, ...]
    X: Array
    offset: Array
    blocks: tuple[Block, ...]
    successes: Array
    trials: Array


@dataclass(frozen=True)
class Coding:
    """The coding learned from a table of trials.

    Parameters
    ----------
    formula
        What is coded.
    levels
        Levels of every factor that stands as a predictor, the reference first.
    ranges
        Minimum, mean and maximum of every numeric predictor.
    names
        Columns of the fixed part.
    """

    formula: Formula
    levels: dict[str, tuple[str, ...]]
    ranges: dict[str, tuple[float, float, float]]
    names: tuple[str, ...]
    _fixed: TermsSpec
    _bars: tuple[tuple[Bar, TermsSpec, tuple[str, ...], tuple[str, ...]], ...]
    _offsets: tuple[TermsSpec, ...]

    def describe(self) -> dict[str, str]:
        """Return each factor's coding in words, for tables and the report."""
        words = {}
        for name in self.levels:
            written = re.search(rf"C\(`?{re.escape(name)}`?, contr\.(\w+)\)", self.formula.fixed)
            kind = {"sum": "sum to zero", "diff": "successive differences"}.get(written[1] if written else "", "")
            words[name] = kind or f"treatment, reference {self.levels[name][0]}"
        return words

    def fixed(self, data: pd.DataFrame) -> Array:
        """Code the fixed part of new rows, shape ``(rows, columns)``."""
        return _matrix(self._fixed, self._prepare(data), self.formula)

    def offset(self, data: pd.DataFrame) -> Array:
        """Evaluate the offsets of new rows, shape ``(rows,)``."""
        rows = self._prepare(data)
        parts = [_matrix(spec, rows, self.formula)[:, 0] for spec in self._offsets]
        return np.sum(parts, axis=0) if parts else np.zeros(len(data))

    def random(self, data: pd.DataFrame) -> tuple[Block, ...]:
        """Code the group effects of new rows; a level that was not seen, or a missing group column, has index -1."""
        rows = self._prepare(data)
        blocks = []
        for bar, spec, terms, levels in self._bars:
            place = {level: i for i, level in enumerate(levels)}
            if set(bar.factors) <= set(data.columns):
                labels = _group_labels(data, bar)
                index = np.array([place.get(label, -1) for label in labels], dtype=np.int64)
            else:
                index = np.full(len(data), -1, dtype=np.int64)
            blocks.append(Block(bar.group, terms, bar.correlated, levels, _matrix(spec, rows, self.formula), index))
        return tuple(blocks)

    def design(self, data: pd.DataFrame) -> Design:
        """Code rows that hold a response."""
        successes, trials = _response(self.formula, data)
        return Design(self.names, self.fixed(data), self.offset(data), self.random(data), successes, trials)

    def grid(self, at: dict[str, Sequence[Any]]) -> pd.DataFrame:
        """Cross the given values; predictors not given are held at their mean, factors take every level.

        Parameters
        ----------
        at
            Values by predictor.

        Returns
        -------
        DataFrame
            One row a combination, the first predictor varying slowest.

        Raises
        ------
        InputError
            If a name is no predictor of the model, or a value no level of its factor.
        """
        known = [*self.levels, *self.ranges]
        for name, values in at.items():
            if name not in known:
                raise InputError(
                    f"'{name}' is no predictor of the model{nearest(name, known)}; its predictors are "
                    f"{', '.join(known) or 'none'}."
                )
            if name in self.levels:
                wrong = [str(v) for v in values if str(v) not in self.levels[name]]
                if wrong:
                    raise InputError(
                        f"'{wrong[0]}' is no level of {name}; its levels are {', '.join(self.levels[name])}."
                    )
        axes: dict[str, list[Any]] = {name: list(values) for name, values in at.items()}
        for name, levels in self.levels.items():
            axes.setdefault(name, list(levels))
        for name, (_, mean, _) in self.ranges.items():
            axes.setdefault(name, [mean])
        index = pd.MultiIndex.from_product(list(axes.values()), names=list(axes))
        return index.to_frame(index=False) if axes else pd.DataFrame(index=[0])

    def _prepare(self, data: pd.DataFrame) -> pd.DataFrame:
        """Give factors plain level codes, so that names of columns can be read whatever the levels hold."""
        out: dict[str, Any] = {}
        for name, levels in self.levels.items():
            text = data[name].astype(str).to_numpy(dtype=object)
            codes = pd.Index(levels).get_indexer(pd.Index(text))
            if (codes < 0).any():
                unseen = text[codes < 0][0]
                raise InputError(f"'{unseen}' is no level of {name}; its levels are {', '.join(levels)}.")
            out[name] = pd.Categorical.from_codes(codes, categories=[f"L{i}" for i in range(len(levels))])
        for name in self.ranges:
            out[name] = data[name].to_numpy(dtype=float)
        return pd.DataFrame(out, index=pd.RangeIndex(len(data)))


def code(formula: Formula, data: pd.DataFrame) -> Coding:
    """Learn the coding of `formula` from the trials.

    Parameters
    ----------
    formula
        Parsed formula.
    data
        Trials without missing values in the formula's columns. Text columns are factors: their levels are those of a
        categorical column in its order, else sorted by code point; only levels that occur count.

    Returns
    -------
    Coding

    Raises
    ------
    FormulaError
        If a column is missing, a factor has one level, columns of the fixed part depend on one another, or a slope is
        asked for on a factor that does not vary within any level of its group.
    """
    for name in formula.variables:
        if name not in data.columns:
            raise FormulaError(
                f"the formula names '{name}', which is no column of the trials{nearest(name, map(str, data.columns))}; "
                f"columns are {', '.join(map(str, data.columns))}."
            )
        if data[name].isna().any():
            raise FormulaError(f"column '{name}' has missing values; drop or complete them first.")
    if data.empty:
        raise InputError("no trials are left to analyse.")
    sides = [formula.fixed, *formula.offsets, *(bar.terms for bar in formula.bars)]
    predictors = [name for name in formula.variables if any(_names(side, name) for side in sides)]
    levels: dict[str, tuple[str, ...]] = {}
    ranges: dict[str, tuple[float, float, float]] = {}
    for name in predictors:
        column = data[name]
        if (
            pd.api.types.is_numeric_dtype(column)
            and not pd.api.types.is_bool_dtype(column)
            and not any(re.search(rf"\bC\(`?{re.escape(name)}\b", side) for side in sides)
        ):
            values = column.to_numpy(dtype=float)
            ranges[name] = (float(values.min()), float(values.mean()), float(values.max()))
        else:
            levels[name] = factor_levels(column)
            if len(levels[name]) < 2:
                raise FormulaError(
                    f"factor '{name}' has one level only ('{levels[name][0]}') in these {len(data)} trials, so it "
                    "cannot be a predictor."
                )
    blank = Coding(formula, levels, ranges, (), TermsSpec([]), (), ())
    rows = blank._prepare(data)
    fixed = _learn(formula.fixed, rows, formula)
    names = _r_names(fixed.column_names, blank)
    _refuse_dependent(_matrix(fixed, rows, formula), names)
    bars = []
    for bar in formula.bars:
        spec = _learn(bar.terms, rows, formula)
        terms = _r_names(spec.column_names, blank)
        labels = _group_labels(data, bar)
        _refuse_constant_slopes(bar, data, labels, levels)
        bars.append((bar, spec, terms, _group_levels(data, bar, labels)))
    for group in formula.groups:
        every = [term for bar, _, terms, _ in bars for term in terms if bar.group == group]
        twice = next((term for term in every if every.count(term) > 1), None)
        if twice:
            raise FormulaError(f"group '{group}' has the term '{twice}' twice; write one of the two with '0 +'.")
    offsets = tuple(_learn(f"0 + {text}", rows, formula) for text in formula.offsets)
    return Coding(formula, levels, ranges, names, fixed, tuple(bars), offsets)


def factor_levels(column: pd.Series[Any]) -> tuple[str, ...]:
    """Return the levels that occur: in a categorical's own order, else sorted by code point."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = set(column.dropna().unique())
        return tuple(str(level) for level in column.cat.categories if level in present)
    return tuple(sorted({str(value) for value in column.dropna().unique()}))


def _names(side: str, name: str) -> bool:
    return bool(re.search(rf"(?<![\w.`]){re.escape(name)}(?![\w.(`])|`{re.escape(name)}`", side))


def _learn(terms: str, rows: pd.DataFrame, formula: Formula) -> TermsSpec:
    try:
        with np.errstate(all="ignore"):  # a logarithm of zero is refused below, by name
            matrix = Terms(terms).get_model_matrix(rows, context=_CALLS, output="numpy", na_action="raise")
    except (FormulaicError, ValueError) as error:
        raise FormulaError(f"'{terms}' in '{formula.text}' cannot be coded: {_first_line(error)}.") from error
    spec = matrix.model_spec
    if not spec.column_names:
        raise FormulaError(f"'{terms}' in '{formula.text}' leaves no column to estimate.")
    return spec


def _matrix(spec: TermsSpec, rows: pd.DataFrame, formula: Formula) -> Array:
    try:
        with np.errstate(all="ignore"):
            matrix = spec.get_model_matrix(rows, context=_CALLS)
    except (FormulaicError, ValueError) as error:
        raise InputError(f"these rows cannot be coded for '{formula.text}': {_first_line(error)}.") from error
    values = np.ascontiguousarray(np.asarray(matrix, dtype=float)).reshape(len(rows), len(spec.column_names))
    if not np.isfinite(values).all():
        bad = spec.column_names[int(np.argmin(np.isfinite(values).all(axis=0)))]
        raise InputError(f"'{bad}' in '{formula.text}' is not finite for some trials (a logarithm of zero, say).")
    return values


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0].rstrip(".")


def _r_names(columns: Sequence[str], coding: Coding) -> tuple[str, ...]:
    """Translate the library's column names into R's: levels verbatim, behind their factor."""
    back = {library: written for written, library in CODINGS.items()}
    names = []
    for column in columns:
        pieces = []
        for piece in re.split(r":(?![^(\[]*[)\]])", column):
            match = re.fullmatch(r"(.*?)(?:\[(?:([A-Z])\.)?(\w+)\])?", piece)
            assert match is not None
            base, kind, level = match.groups()
            variable = re.sub(r"^C\(`?(.*?)`?(?:,.*)?\)$", r"\1", base)
            base = base.replace(" ** ", "^").replace("**", "^").replace("`", "")
            for library, written in back.items():
                base = base.replace(library, written)
            base = re.sub(r"(?<=\w)=(?=\S)", " = ", base)
            if level is not None and variable in coding.levels:
                place = int(level[1:])
                words = coding.levels[variable]
                level = (
                    str(place + 1)
                    if kind == "S"
                    else f"{words[place]}-{words[place - 1]}"
                    if kind == "D"
                    else words[place]
                )
            pieces.append(base + (level or ""))
        names.append(":".join(pieces))
    return tuple(names)


def _refuse_dependent(X: Array, names: tuple[str, ...]) -> None:
    """Refuse columns that are linear combinations of others: the data cannot tell them apart."""
    if len(X) == 0:
        return
    scaled = X / np.maximum(np.linalg.norm(X, axis=0), np.finfo(float).tiny)
    r, order = scipy.linalg.qr(scaled, mode="r", pivoting=True)
    size = np.abs(np.diag(r[: len(names)]))
    rank = int((size > 1e-10 * max(len(X), len(names))).sum())
    if rank < len(names):
        lost = ", ".join(names[i] for i in sorted(order[rank:]))
        raise FormulaError(
            f"these trials cannot tell all fixed effects apart: {lost} is a combination of the others (a cell without "
            "trials, or one predictor that follows from another); leave it out of the formula."
        )


def _refuse_constant_slopes(
    bar: Bar, data: pd.DataFrame, labels: npt.NDArray[Any], levels: dict[str, tuple[str, ...]]
) -> None:
    for name in levels:
        if _names(bar.terms, name):
            most = data[name].astype(str).groupby(labels).nunique().max()
            if most < 2:
                raise FormulaError(
                    f"({bar.terms} | {bar.group}) asks for a slope on '{name}', but every level of {bar.group} has one "
                    f"level of {name} only; write (1 | {bar.group})."
                )


def _group_labels(data: pd.DataFrame, bar: Bar) -> npt.NDArray[Any]:
    parts = [data[name].astype(str).to_numpy(dtype=object) for name in bar.factors]
    labels = parts[0]
    for part in parts[1:]:
        labels = labels + ":" + part
    return np.asarray(labels, dtype=object)


def _group_levels(data: pd.DataFrame, bar: Bar, labels: npt.NDArray[Any]) -> tuple[str, ...]:
    if len(bar.factors) == 1:
        return factor_levels(data[bar.group])
    return tuple(sorted(set(labels)))


def _response(formula: Formula, data: pd.DataFrame) -> tuple[Array, Array]:
    response = formula.response
    for name in response.columns:
        if not (pd.api.types.is_numeric_dtype(data[name]) or pd.api.types.is_bool_dtype(data[name])):
            raise InputError(f"the response column '{name}' holds text; it needs 0 and 1, or counts.")
    successes = data[response.successes].to_numpy(dtype=float)
    if response.failures:
        trials = successes + data[response.failures].to_numpy(dtype=float)
    elif response.trials:
        trials = data[response.trials].to_numpy(dtype=float)
    else:
        trials = np.ones(len(data))
    whole = (successes == np.round(successes)) & (trials == np.round(trials))
    wrong = ~(whole & (successes >= 0) & (successes <= trials))
    if wrong.any():
        row = data.index[int(np.argmax(wrong))]
        allowed = "whole numbers of successes from 0 to their total" if response.counts else "0 and 1"
        raise InputError(
            f"the response '{response.successes}' is {successes[wrong][0]:g} in row {row}; allowed are {allowed}."
        )
    return successes, trials
