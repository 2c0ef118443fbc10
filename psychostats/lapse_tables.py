"""What the simulations of lapses and careless people add up to: power, precision and error, and what a rule gives.

In: the table of `psychostats.lapses.collect`.  Out: tidy tables with Monte Carlo errors, paired where the same trials
were analysed, beside what closed forms say.  Knows no words and no figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.catch_trials import attenuation, careless_left, dismissed, dismissed_careful
from psychostats.errors import InputError
from psychostats.lapses import NO_RULE, Question

Array: TypeAlias = npt.NDArray[np.float64]
Measure: TypeAlias = Literal["expected", "rmse", "power"]
MEASURES: tuple[Measure, ...] = ("expected", "rmse", "power")

SCENARIO = ["lapse", "careless"]
_WAY = [*SCENARIO, "rule", "treatment", "quantity"]
#: Monte Carlo errors from 0 beyond which a difference is taken as one.
CLEAR = 2.0


@dataclass(frozen=True)
class Summary:
    """All tables.

    Parameters
    ----------
    performance
        Of `performance`.
    differences, break_even
        Of `differences` and `break_even`.
    dismissals
        Of `dismissals`.
    attenuations
        Of `attenuations`.
    quantities
        Their names, the headline contrast first.
    """

    performance: pd.DataFrame
    differences: pd.DataFrame
    break_even: pd.DataFrame
    dismissals: pd.DataFrame
    attenuations: pd.DataFrame
    quantities: tuple[str, ...]


def summarise(question: Question, runs: pd.DataFrame) -> Summary:
    """Make every table of a question's simulations.

    Raises
    ------
    InputError
        If there are none.
    """
    if runs.empty:
        raise InputError("there is no simulation of lapses to summarise yet.")
    return Summary(
        performance(runs),
        differences(question, runs),
        break_even(question, runs),
        dismissals(question, runs),
        attenuations(question, runs),
        tuple(dict.fromkeys(runs["quantity"])),
    )


def performance(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what each way of analysis does in each scenario, with Monte Carlo errors.

    Parameters
    ----------
    runs
        Of `psychostats.lapses.collect`.

    Returns
    -------
    DataFrame
        A row a scenario, rule, treatment and quantity: ``simulations, failed, singular`` (counts), ``at_end`` (share of
        estimated rates that are 0), ``participants`` (mean), ``truth`` (among careful people), and ``power, half_width,
        bias, rmse, coverage`` with ``_se`` each. Power is the share of all simulations whose interval leaves 0 out,
        failed ones being none; the rest is of those with a fit.
    """
    rows = []
    for key, part in runs.groupby(_WAY, sort=True):
        fitted = part[part["estimate"].notna()]
        error = (fitted["estimate"] - fitted["truth"]).to_numpy(dtype=float)
        half = (0.5 * (fitted["conf_high"] - fitted["conf_low"])).to_numpy(dtype=float)
        covered = (fitted["conf_low"] <= fitted["truth"]) & (fitted["truth"] <= fitted["conf_high"])
        rows.append(
            dict(zip(_WAY, key, strict=True))
            | {
                "simulations": len(part),
                "failed": int(part["estimate"].isna().sum()),
                "singular": int(fitted["singular"].sum()),
                "at_end": float(fitted["at_end"].mean()) if fitted["rate"].notna().any() else np.nan,
                "participants": float(part["participants"].mean()),
                "truth": float(part["truth"].iloc[0]),
            }
            | _share("power", detected(part))
            | _mean("half_width", half)
            | _mean("bias", error)
            | {"rmse": _rmse(error), "rmse_se": _error(_rmse_influence(error))}
            | _share("coverage", np.asarray(covered, dtype=float))
        )
    return pd.DataFrame(rows)


def detected(runs: pd.DataFrame) -> Array:
    """Return 1 where an interval leaves 0 out, and 0 where it does not or there is none."""
    return np.asarray((runs["conf_low"] > 0) | (runs["conf_high"] < 0), dtype=float)


def differences(question: Question, runs: pd.DataFrame) -> pd.DataFrame:
    """Return what each rule changes, against no rule on the same trials.

    Returns
    -------
    DataFrame
        A row a scenario, rule, treatment and quantity: ``pairs`` (simulations with both fits), and ``power, half_width,
        rmse, expected``, each with the rule minus without and with ``_se`` of the paired difference. That of power is
        McNemar's: from the simulations in which one detects and the other does not, with half a simulation more in each
        cell (Agresti and Min 2005), so that it is above 0 where there are none. Expected is the change in the root
        of bias^2 + SE^2: the bias that careless people leave by `attenuation`, of those whom the rule keeps by the
        binomial law, and the mean squared standard error of the simulations. It is known far better than the change in
        RMSE, and holds as far as standard errors do; NaN with other rules, which dismiss careless people too.
    """
    rows = []
    for key, gains in _paired(question, runs):
        rows.append(
            key
            | {"pairs": gains.pairs, "power": gains.power.mean(), "power_se": _mcnemar(gains.power)}
            | _mean("half_width", gains.half_width)
            | {"rmse": gains.rmse, "rmse_se": _error(gains.rmse_influence)}
            | {"expected": gains.expected, "expected_se": _error(gains.expected_influence)}
        )
    return pd.DataFrame(rows)


def break_even(question: Question, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the share of careless people from which on a rule gives more than it costs.

    Returns
    -------
    DataFrame
        A row a lapse rate, rule, treatment, quantity and ``measure`` (of `MEASURES`): ``careless, careless_se``, where
        the gain (less error, more power) crosses 0 from below, by a straight line between the two shares around it (NaN
        where it does not), and ``verdict``: ``from`` (a clear cost before and a clear gain after), ``end`` (a clear
        gain from the share ``careless`` on, of those asked about, and nowhere a clear cost), ``always`` (a clear gain
        at every share), ``never`` (nowhere a gain, and clearly a cost at one), ``open`` otherwise. The error is by the
        delta method from both ends, which share their simulations.
    """
    found: dict[tuple[Any, ...], list[tuple[float, dict[str, tuple[float, pd.Series[float]]]]]] = {}
    for key, gains in _paired(question, runs):
        name = tuple(key[part] for part in ("lapse", "rule", "treatment", "quantity"))
        measures = {
            "expected": (-gains.expected, pd.Series(-gains.expected_influence, gains.fitted)),
            "rmse": (-gains.rmse, pd.Series(-gains.rmse_influence, gains.fitted)),
            "power": (float(gains.power.mean()), pd.Series(gains.power - gains.power.mean(), gains.all)),
        }
        found.setdefault(name, []).append((key["careless"], measures))
    rows = []
    for name, places in found.items():
        places = sorted(places, key=lambda one: one[0])
        for measure in MEASURES:
            shares = [share for share, _ in places]
            gain = [values[measure][0] for _, values in places]
            influence = [values[measure][1] for _, values in places]
            at, se = _crossing([question.share_of(name[0], share) for share in shares], gain, influence)
            verdict, first = _verdict(gain, influence, at)
            if verdict == "end":
                at, se = shares[first], np.nan
            rows.append(
                dict(zip(("lapse", "rule", "treatment", "quantity"), name, strict=True))
                | {"measure": measure, "careless": at, "careless_se": se, "verdict": verdict}
            )
    return pd.DataFrame(rows)


def dismissals(question: Question, runs: pd.DataFrame) -> pd.DataFrame:
    """Return whom each rule dismisses, by closed form and in the simulations.

    Returns
    -------
    DataFrame
        A row a scenario and rule: ``careful`` (share of careful people dismissed by chance), ``caught`` (share of the
        careless dismissed), ``expected`` people dismissed, and ``simulated, simulated_se``, their mean. Expected is
        of this rule alone, so that it holds where no other rule about people is applied.
    """
    rows = []
    one = runs.drop_duplicates([*SCENARIO, "rule", "simulation"])
    none = one[one["rule"] == NO_RULE]
    for key, part in one[one["rule"] > NO_RULE].groupby([*SCENARIO, "rule"], sort=True):
        rate, share, least = _numbers(key)
        careless = question.scenario(rate, share).careless
        careful, caught = _dismissed(question, rate, least)
        everybody = none[(none["lapse"] == rate) & (none["careless"] == share)].set_index("simulation")["participants"]
        gone = everybody.sub(part.set_index("simulation")["participants"]).dropna()
        rows.append(
            {"lapse": rate, "careless": share, "rule": least, "careful": careful, "caught": caught}
            | {"expected": (question.people - careless) * careful + careless * caught}
            | _mean("simulated", gone.to_numpy(dtype=float))
        )
    return pd.DataFrame(rows)


def _dismissed(question: Question, rate: float, least: float) -> tuple[float, float]:
    """Return the shares of careful and of careless people that a rule dismisses."""
    plan = question.scenario(rate, 0.0)
    guess = float(plan.spec.family.guess)
    careful = dismissed_careful(
        plan.catch, least, accuracy=plan.catch_accuracy, lapse=rate, lapse_sd=plan.lapse_sd, guess=guess
    )
    return careful, float(dismissed(plan.catch, least, guess or 0.5))


def attenuations(question: Question, runs: pd.DataFrame) -> pd.DataFrame:
    """Return what lapses and careless people leave of each quantity, by closed form and in the simulations.

    Returns
    -------
    DataFrame
        A row a scenario and quantity: ``left``, the share of the value without either; ``expected``, that share of it;
        ``estimate, estimate_se``, the mean estimate without a rule and with lapses ignored.
    """
    guess = float(question.plan.spec.family.guess)
    plain = runs[(runs["rule"] == NO_RULE) & (runs["treatment"] == question.treatments[0])]
    rows = []
    for key, part in plain.groupby([*SCENARIO, "quantity"], sort=True):
        (rate, share), name = _numbers(key[:2]), key[2]
        lapses, truth = attenuation(lapse=rate, guess=guess), float(part["truth"].iloc[0])
        left = attenuation(question.scenario(rate, share).careless / question.people, rate, guess)
        rows.append(
            {"lapse": rate, "careless": share, "quantity": name, "left": left, "expected": truth * left / lapses}
            | _mean("estimate", part["estimate"].dropna().to_numpy(dtype=float))
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Gains:
    """A rule against no rule: differences of single simulations, and numbers of the simulations they are of."""

    all: pd.Index[Any]
    fitted: pd.Index[Any]
    power: Array
    half_width: Array
    rmse: float
    rmse_influence: Array
    expected: float
    expected_influence: Array

    @property
    def pairs(self) -> int:
        return len(self.fitted)


def _paired(question: Question, runs: pd.DataFrame) -> list[tuple[dict[str, Any], _Gains]]:
    """Pair every rule with no rule, by simulation."""
    found = []
    for key, part in runs.groupby([*SCENARIO, "treatment", "quantity"], sort=True):
        by_rule = {rule: rows.set_index("simulation").sort_index() for rule, rows in part.groupby("rule", sort=True)}
        none = by_rule.get(NO_RULE)
        if none is None:
            continue
        for rule, rows in by_rule.items():
            if rule == NO_RULE:
                continue
            both = none.index.intersection(rows.index)
            a, b = rows.loc[both], none.loc[both]
            fitted = both[(a["estimate"].notna() & b["estimate"].notna()).to_numpy()]
            errors = [np.asarray(one.loc[fitted, "estimate"] - one.loc[fitted, "truth"], float) for one in (a, b)]
            halves = [
                0.5 * np.asarray(one.loc[fitted, "conf_high"] - one.loc[fitted, "conf_low"], float) for one in (a, b)
            ]
            rmse = [_rmse(error) for error in errors]
            gains = _Gains(
                both,
                fitted,
                detected(a) - detected(b),
                halves[0] - halves[1],
                rmse[0] - rmse[1],
                _rmse_influence(errors[0]) - _rmse_influence(errors[1]),
                *_expected(question, key[:2], _numbers((rule,))[0], a.loc[fitted], b.loc[fitted]),
            )
            found.append((dict(zip([*SCENARIO, "treatment", "quantity"], key, strict=True)) | {"rule": rule}, gains))
    return found


def _expected(
    question: Question, scenario: tuple[Any, ...], rule: float, ruled: pd.DataFrame, free: pd.DataFrame
) -> tuple[float, Array]:
    """Return the change in the root of bias^2 + SE^2, and how each simulation moves it."""
    rate, share = _numbers(scenario)
    careless = question.scenario(rate, share).careless / question.people
    if question.other_rules:  # who is left follows from all rules together
        return np.nan, np.full(len(ruled), np.nan)
    left = careless_left(careless, *_dismissed(question, rate, rule))
    parts = []
    for rows, wrong in ((ruled, left), (free, careless)):
        if rows.empty:
            return np.nan, np.zeros(0)
        bias = float(rows["truth"].to_numpy(dtype=np.float64)[0]) * (1.0 - attenuation(wrong))
        variance = np.asarray(rows["sd"], dtype=float) ** 2
        error = float(np.sqrt(bias**2 + variance.mean()))
        parts.append((error, (variance - variance.mean()) / (2.0 * error)))
    return parts[0][0] - parts[1][0], parts[0][1] - parts[1][1]


def _crossing(shares: list[float], gain: list[float], influence: list[pd.Series[float]]) -> tuple[float, float]:
    """Return where a gain first crosses 0 from below, and its standard error; NaN where it does not."""
    for i in range(len(shares) - 1):
        a, b = gain[i], gain[i + 1]
        if a < 0 <= b:
            width = shares[i + 1] - shares[i]
            by_a, by_b = -width * b / (b - a) ** 2, width * a / (b - a) ** 2
            moved = (by_a * influence[i]).add(by_b * influence[i + 1], fill_value=0.0)
            return shares[i] - width * a / (b - a), _error(moved.to_numpy(dtype=float))
    return np.nan, np.nan


def _verdict(gain: list[float], influence: list[pd.Series[float]], at: float) -> tuple[str, int]:
    """Say whether a rule pays, as far as the simulations tell, and from which share on all gains are clear."""
    errors = [_error(one.to_numpy(dtype=float)) for one in influence]
    clear = [abs(one) > CLEAR * error for one, error in zip(gain, errors, strict=True)]
    pays = [one > 0 and sure for one, sure in zip(gain, clear, strict=True)]
    costs = [one < 0 and sure for one, sure in zip(gain, clear, strict=True)]
    first = next(i for i in range(len(pays) + 1) if all(pays[i:]))
    if not any(clear):
        return "open", first
    if first == 0:
        return "always", first
    if not any(pays) and all(one <= 0 for one in gain):
        return "never", first
    if not pays[-1]:
        return "open", first
    return ("end" if not any(costs) else "from" if np.isfinite(at) and costs[0] else "open"), first


def _rmse(error: Array) -> float:
    return float(np.sqrt(np.mean(error**2))) if len(error) else np.nan


def _rmse_influence(error: Array) -> Array:
    """Return how each simulation moves the root mean square of errors, by the delta method; their mean is 0."""
    rmse = _rmse(error)
    return np.asarray((error**2 - rmse**2) / (2.0 * rmse)) if rmse > 0 else np.zeros(len(error))


def _numbers(key: tuple[Any, ...]) -> list[float]:
    return [float(one) for one in key]


def _mcnemar(changes: Array) -> float:
    """Return the standard error of a difference of paired shares; `changes` are 1, 0 and -1."""
    n = len(changes) + 2.0
    gained, lost = (changes > 0).sum() + 0.5, (changes < 0).sum() + 0.5
    return float(np.sqrt(gained + lost - (gained - lost) ** 2 / n) / n)


def _error(values: npt.NDArray[Any]) -> float:
    """Return the standard error of a mean; NaN of fewer than two."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def _mean(name: str, values: Array) -> dict[str, float]:
    return {name: float(values.mean()) if len(values) else np.nan, f"{name}_se": _error(values)}


def _share(name: str, hits: Array) -> dict[str, float]:
    """Return a share and its error by the binomial law; Agresti and Coull's two hits and two misses keep it above 0."""
    if not len(hits):
        return {name: np.nan, f"{name}_se": np.nan}
    share, n = float(hits.mean()), len(hits)
    near = (hits.sum() + 2.0) / (n + 4.0)
    return {name: share, f"{name}_se": float(np.sqrt(near * (1.0 - near) / (n + 4.0)))}
