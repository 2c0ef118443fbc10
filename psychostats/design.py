"""A formula and a table of trials into coded design matrices, named as R's model.matrix names them.

In: a `Formula` and a data frame.  Out: a `Coding`, which remembers levels, centres and bases learned from that frame
and codes any further rows the same way, and the `Design` of the frame itself.  Knows no family, prior or sampler.
"""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from formulaic import Formula as Terms
from formulaic import ModelSpec as TermsSpec
from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import Term

from psychostats.errors import FormulaError, InputError, nearest
from psychostats.formula import Bar, Formula, as_written, calls_mo
from psychostats.grouping import group_labels, group_levels, refuse_constant_slopes
from psychostats.identifiable import Crossed, check_range, refuse_constant, refuse_dependent
from psychostats.levels import ResponseKind, factor_levels, is_number, level_names
from psychostats.monotonic import Monotonic, find_monotonic, plain_columns, require_ordered, steps
from psychostats.responses import read_response

Array: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]

# The only names a formula can reach beyond columns and the library's own transforms; formula.py lets no others through.
_CALLS = {"sqrt": np.sqrt, "mo": steps}
_FACTOR = r"(?:C\()?(V\d+)(?:, contr\.\w+)?\)?"  # a column as the library writes it, with its coding if it has one
_MANY = 2_000  # columns beyond which a side that has more of them than trials is refused before it fills the memory


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
        For each row, the place of its level in `levels`, shape ``(rows,)``; -1 for one that was not seen or is missing.
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
        Response as counts, each of shape ``(rows,)``; one trial a row where the response is 0/1. A measurement or a
        rating stands in `successes`.
    scale_names, scale
        Names of the columns that log disc depends on, behind ``disc_``, and the columns, shape ``(rows, columns)``;
        none where disc is the same everywhere.
    """

    names: tuple[str, ...]
    X: Array
    offset: Array
    blocks: tuple[Block, ...]
    successes: Array
    trials: Array
    scale_names: tuple[str, ...] = ()
    scale: Array | None = None

    @property
    def monotonic(self) -> tuple[Monotonic, ...]:
        """Monotonic effects, whose steps are among the columns."""
        return find_monotonic(self.names)

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the columns that are no steps, each with a coefficient of its own."""
        return tuple(self.names[place] for place in plain_columns(self.monotonic, len(self.names)))


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
    thresholds
        Whether thresholds take the intercept's place, so that it is no column.
    scale_names
        Columns that log disc depends on, behind ``disc_``.
    """

    formula: Formula
    levels: dict[str, tuple[str, ...]]
    ranges: dict[str, tuple[float, float, float]]
    names: tuple[str, ...]
    _fixed: TermsSpec
    _bars: tuple[tuple[Bar, TermsSpec, tuple[str, ...], tuple[str, ...]], ...]
    _offsets: tuple[TermsSpec, ...]
    thresholds: bool = False
    scale_names: tuple[str, ...] = ()
    _scale: TermsSpec | None = None

    def describe(self) -> dict[str, str]:
        """Return each factor's coding in words, for tables and the report; that of the fixed part if it is there."""
        words = {}
        for name, levels in self.levels.items():
            side = next(side for side in _sides(self.formula) if f"`{name}`" in side)
            written = re.search(rf"C\(`{re.escape(name)}`, contr\.(sum|diff)\)", side)
            if f"mo(`{name}`)" in side:
                words[name] = f"monotonic, from {levels[0]} to {levels[-1]}"
            elif written:
                words[name] = {"sum": "sum to zero", "diff": "successive differences"}[written[1]]
            elif f"{name}{levels[0]}" in self.names:
                words[name] = "a column for each level"
            else:
                words[name] = f"treatment, reference {levels[0]}"
        return words

    def fixed(self, data: pd.DataFrame) -> Array:
        """Code the fixed part of new rows, shape ``(rows, columns)``.

        Raises
        ------
        InputError
            If a predictor is missing, lacks values, or has a level that was not seen.
        """
        return _matrix(self._fixed, self._prepare(data), self)[:, int(self.thresholds) :]  # without the intercept

    def scale(self, data: pd.DataFrame) -> Array | None:
        """Code what log disc depends on in new rows, shape ``(rows, columns)``; None where it is the same in all."""
        return None if self._scale is None else _matrix(self._scale, self._prepare(data), self)[:, 1:]

    def offset(self, data: pd.DataFrame) -> Array:
        """Evaluate the offsets of new rows, shape ``(rows,)``."""
        rows = self._prepare(data)
        parts = [_matrix(spec, rows, self)[:, 0] for spec in self._offsets]
        return np.sum(parts, axis=0) if parts else np.zeros(len(data))

    def random(self, data: pd.DataFrame) -> tuple[Block, ...]:
        """Code the group effects of new rows; a level that was not seen, or a missing group column, has index -1."""
        rows = self._prepare(data)
        blocks = []
        for bar, spec, terms, levels in self._bars:
            index = np.full(len(data), -1, dtype=np.int64)
            if set(bar.factors) <= set(data.columns):
                index[:] = pd.Index(levels).get_indexer(pd.Index(group_labels(data, bar)))
                index[data[list(bar.factors)].isna().any(axis=1).to_numpy()] = -1
            blocks.append(Block(bar.group, terms, bar.correlated, levels, _matrix(spec, rows, self), index))
        return tuple(blocks)

    def design(self, data: pd.DataFrame, response: ResponseKind = "answers") -> Design:
        """Code rows that hold a response of some kind; see `psychostats.responses.read_response`."""
        successes, trials = read_response(self.formula.response, data, response)
        sides = self.fixed(data), self.offset(data), self.random(data)
        return Design(self.names, *sides, successes, trials, self.scale_names, self.scale(data))

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
            if not len(values):
                raise InputError(f"no values are given for {name}.")
        axes: dict[str, list[Any]] = {name: list(values) for name, values in at.items()}
        for name, levels in self.levels.items():
            axes.setdefault(name, list(levels))
        for name, (_, mean, _) in self.ranges.items():
            axes.setdefault(name, [mean])
        if not axes:
            return pd.DataFrame(index=[0])
        grid = pd.MultiIndex.from_product(list(axes.values()), names=list(axes)).to_frame(index=False)
        self._prepare(grid)
        return grid

    @property
    def _aliases(self) -> dict[str, str]:
        """Plain names that stand for the predictors' own while they are coded, whatever those hold."""
        return {name: f"V{i}" for i, name in enumerate([*self.levels, *self.ranges])}

    def _prepare(self, data: pd.DataFrame) -> pd.DataFrame:
        """Check the predictors of some rows and give them, and the levels of factors, plain names."""
        out: dict[str, Any] = {}
        for name, alias in self._aliases.items():
            if name not in data.columns:
                raise InputError(f"the predictor '{name}' is missing in these rows.")
            column = data[name]
            if column.isna().any():
                raise InputError(f"column '{name}' has missing values; drop or complete them first.")
            if name in self.levels:
                levels = self.levels[name]
                text = level_names(column)
                codes: npt.NDArray[Any] = pd.Index(levels).get_indexer(pd.Index(text))
                if (codes < 0).any():
                    unseen = text[codes < 0][0]
                    raise InputError(f"'{unseen}' is no level of {name}; its levels are {', '.join(levels)}.")
                out[alias] = pd.Categorical.from_codes(
                    codes, categories=pd.Index([f"L{i}" for i in range(len(levels))])
                )
            elif not is_number(column) or not np.isfinite(column.to_numpy(dtype=float)).all():
                raise InputError(f"the predictor '{name}' takes finite numbers; in these rows it holds something else.")
            else:
                out[alias] = column.to_numpy(dtype=float)
        return pd.DataFrame(out, index=pd.RangeIndex(len(data)))


def code(formula: Formula, data: pd.DataFrame, *, thresholds: bool = False) -> Coding:
    """Learn the coding of `formula` from the trials.

    Parameters
    ----------
    formula
        Parsed formula.
    data
        Trials without missing values in the formula's columns. Text columns are factors: their levels are those of a
        categorical column in its order, else sorted by code point; only levels that occur count.
    thresholds
        Leave the intercept's column out, whose place thresholds take.

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
    sides = _sides(formula)
    levels: dict[str, tuple[str, ...]] = {}
    ranges: dict[str, tuple[float, float, float]] = {}
    for name in formula.variables:
        ordered = any(f"mo(`{name}`)" in side for side in sides)
        plain = any(f"`{name}`" in side.replace(f"C(`{name}`", "").replace(f"mo(`{name}`)", "") for side in sides)
        coded = ordered or any(f"C(`{name}`" in side for side in sides)
        if is_number(data[name]) and plain and coded:
            call = "mo" if ordered else "C"
            raise FormulaError(
                f"'{name}' stands in '{formula.text}' both as a number and in {call}(); copy it to a column."
            )
        if ordered:
            require_ordered(name, data[name])
        if is_number(data[name]) and plain:
            values = data[name].to_numpy(dtype=float)
            if not np.isfinite(values).all():
                raise FormulaError(f"the predictor '{name}' takes finite numbers; drop or correct the others first.")
            check_range(name, float(values.min()), float(values.max()))
            ranges[name] = (float(values.min()), float(values.mean()), float(values.max()))
        elif plain or coded:
            levels[name] = factor_levels(data[name])
            if len(levels[name]) < 2:
                raise FormulaError(
                    f"factor '{name}' has one level only ('{levels[name][0]}') in these {len(data)} trials, so it "
                    "cannot be a predictor."
                )
    blank = Coding(formula, levels, ranges, (), TermsSpec([]), (), (), thresholds)
    rows = blank._prepare(data)
    fixed, names = _learn_apart(formula.fixed, rows, blank)
    scale, scale_names = _learn_apart(formula.scale, rows, blank) if formula.scale else (None, ("Intercept",))
    if scale_names[0] != "Intercept":
        raise FormulaError(f"disc is 1 at the reference; leave out the 0 in '{formula.disc}'.")
    if formula.scale and len(scale_names) < 2:
        raise FormulaError(f"disc names no column in '{formula.disc}'.")
    scale_names = tuple(f"disc_{name}" for name in scale_names[1:])
    if scale_names and {*names, *formula.groups} & {"disc", *scale_names}:
        raise FormulaError(f"a column of '{formula.text}' bears the name of an effect on disc; rename it.")
    if thresholds:
        if names[0] != "Intercept":
            raise FormulaError(f"thresholds take the intercept's place; leave out the 0 in '{formula.text}'.")
        names = names[1:]
    bars = []
    for bar in formula.bars:
        if calls_mo(bar.terms):
            raise FormulaError(f"mo() stands in the fixed part alone; in {bar} take the column as it is.")
        spec, terms, Z = _learn(bar.terms, rows, blank)
        refuse_constant(str(bar), Z, terms)
        labels = group_labels(data, bar)
        refuse_constant_slopes(bar, data, labels, levels)
        bars.append((bar, spec, terms, group_levels(data, bar, labels)))
    for group in formula.groups:
        every = [term for bar, _, terms, _ in bars for term in terms if bar.group == group]
        twice = next((term for term in every if every.count(term) > 1), None)
        if twice:
            raise FormulaError(f"group '{group}' has the term '{twice}' twice; write one of the two with '0 +'.")
    offsets = tuple(_learn(f"0 + {text}", rows, blank)[0] for text in formula.offsets)
    return Coding(formula, levels, ranges, names, fixed, tuple(bars), offsets, thresholds, scale_names, scale)


def _sides(formula: Formula) -> list[str]:
    return [formula.fixed, *(bar.terms for bar in formula.bars), *formula.offsets, formula.scale]


def _learn_apart(terms: str, rows: pd.DataFrame, coding: Coding) -> tuple[TermsSpec, tuple[str, ...]]:
    """Learn how one side of the formula is coded, and refuse columns that the trials cannot tell apart."""
    spec, names, X = _learn(terms, rows, coding)
    crossed = tuple(_crossed(term, coding) for term, places in spec.term_indices.items() for _ in places)
    codes = {name: rows[coding._aliases[name]].cat.codes.to_numpy() for name in coding.levels}
    refuse_dependent(X, names, Crossed(coding.levels, codes, crossed))
    return spec, names


def _learn(terms: str, rows: pd.DataFrame, coding: Coding) -> tuple[TermsSpec, tuple[str, ...], Array]:
    """Learn how one side of the formula is coded, name its columns and return them."""
    aliases, where = coding._aliases, f"'{as_written(terms)}' in '{coding.formula.whole}'"
    text = re.sub(r"`([^`]+)`", lambda name: aliases[name[1]], terms)
    try:
        ordered = _in_r_order(text)
        _refuse_misfits(ordered, rows, coding, where)
        with _quiet():
            matrix = ordered.get_model_matrix(rows, context=_CALLS, output="numpy", na_action="ignore")
    except (FormulaicError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        # Never the library's own words: they speak of what it makes of a formula, not of the formula.
        cause = error.__cause__ or error
        zero, large = isinstance(cause, ZeroDivisionError), isinstance(cause, OverflowError)
        reason = ": a number is divided by zero" if zero else ": a number in it is too large" if large else ""
        raise FormulaError(f"{where} cannot be coded{reason}.") from error
    spec = matrix.model_spec
    if not spec.column_names:
        raise FormulaError(f"{where} leaves no column to estimate.")
    names = _r_names(spec.column_names, coding)
    return spec, names, _finite(matrix, names, coding)


def _refuse_misfits(terms: Any, rows: pd.DataFrame, coding: Coding, where: str) -> None:
    """Refuse factors within calls, polynomials of too few values, and more columns than could be of use."""
    own, columns = {alias: name for name, alias in coding._aliases.items()}, 0
    for term in terms:
        for call in (str(factor) for factor in term.factors if "(" in str(factor)):
            inside = list(dict.fromkeys(re.findall(r"\bV\d+\b", call)))
            fault = next((f"('{own[alias]}')" for alias in inside if own[alias] in coding.levels), "")
            if fault and not call.startswith(("C(", "mo(")):
                raise FormulaError(f"{where} cannot be coded: a factor stands where a number is needed {fault}.")
            degree = re.search(r"[ =](\d+)\)$", call)
            if call.startswith("poly(") and len(rows[inside].drop_duplicates()) <= int(degree[1] if degree else 1):
                held = f"{len(rows[inside].drop_duplicates())} of {' and '.join(own[alias] for alias in inside)}"
                fault = f"poly() needs more values than its degree, and there are only {held}"
                raise FormulaError(f"{where} cannot be coded: {fault}.")
        columns += math.prod(len(coding.levels[name]) - 1 for name in _crossed(term, coding))
    if columns > max(len(rows), _MANY):
        raise FormulaError(f"{where} has {columns:,} columns or more for {len(rows):,} trials; ask for fewer.")


def _crossed(term: Any, coding: Coding) -> tuple[str, ...]:
    """Return the factors that a term crosses."""
    own = {alias: name for name, alias in coding._aliases.items()}
    found = (re.fullmatch(_FACTOR, str(factor)) for factor in term.factors)
    return tuple(dict.fromkeys(own[one[1]] for one in found if one and own[one[1]] in coding.levels))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let numbers overflow in silence: what is not finite is refused afterwards, by name."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _in_r_order(text: str) -> Any:
    """Parse one side of a formula; within an interaction factors stand as they first appear in the text, as in R."""
    kinds = ("name", "python")
    seen = [str(token.token) for token in DefaultFormulaParser().get_tokens(text) if token.kind.value in kinds]
    place = {name: i for i, name in reversed(list(enumerate(seen)))}
    return Terms([Term(sorted(term.factors, key=lambda factor: place.get(str(factor), -1))) for term in Terms(text)])


def _matrix(spec: TermsSpec, rows: pd.DataFrame, coding: Coding) -> Array:
    try:
        with _quiet():
            matrix = spec.get_model_matrix(rows, context=_CALLS)
    except (FormulaicError, ValueError) as error:
        held = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, _, high) in coding.ranges.items())
        raise InputError(
            f"these rows cannot be coded for '{coding.formula.whole}': a spline reaches no further than the trials it "
            f"was learned from ({held})."
        ) from error
    return _finite(matrix, _r_names(spec.column_names, coding), coding)


def _finite(matrix: Any, names: tuple[str, ...], coding: Coding) -> Array:
    values = np.ascontiguousarray(np.asarray(matrix, dtype=float)).reshape(-1, len(names))
    finite = np.isfinite(values)
    if not finite.all():
        worst = int(np.argmin(finite.all(axis=0)))
        raise InputError(
            f"'{names[worst]}' in '{coding.formula.whole}' is not finite in {int((~finite[:, worst]).sum()):,} of "
            f"{len(values):,} trials (a logarithm of zero, say)."
        )
    return values


def _own_names(text: str, coding: Coding) -> str:
    """Put the predictors' own names back for their aliases."""
    names = list(coding._aliases)
    return re.sub(r"\bV(\d+)\b", lambda alias: names[int(alias[1])], text)


def _r_names(columns: Sequence[str], coding: Coding) -> tuple[str, ...]:
    """Translate the library's column names into R's: levels verbatim, behind their factor."""
    own = {alias: name for name, alias in coding._aliases.items()}
    names = []
    for column in columns:
        pieces = []
        for piece in column.split(":"):
            match = re.fullmatch(r"(.*?)(?:\[(?:([A-Z])\.)?(\w+)\])?", piece)
            assert match is not None
            base, kind, level = match.groups()
            factor = re.fullmatch(_FACTOR, base)
            base = _own_names(as_written(base), coding)
            if level and level.startswith("L"):
                assert factor is not None, f"{base} has levels but is no factor"
                words, place = coding.levels[own[factor[1]]], int(level[1:])
                codes = {"S": str(place + 1), "D": f"{words[place]}-{words[place - 1]}"}
                level = codes.get(kind, words[place])
            pieces.append(base + (level or ""))
        names.append(":".join(pieces))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise FormulaError(f"two columns of '{coding.formula.whole}' would both be called '{twice}'; rename one.")
    return tuple(names)
