"""Trials from known parameters: a whole study with its practice and catch trials, its slips and its careless people.

In: a `Plan`, which says who sees what and what is true; or trial lists that were made elsewhere, and `People` who
answer them.  Out: a trial table as an experiment would record it: answers, ratings or measurements.  Knows no file and
no fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.attention import catch_probability, draw_rates, with_rates
from psychostats.design import Coding, code
from psychostats.errors import InputError, nearest
from psychostats.family import Family
from psychostats.predictor import linear_predictor, plural
from psychostats.spec import ModelSpec
from psychostats.truth import draw_levels, true_parameters

__all__ = [
    "RECORDED",
    "People",
    "Plan",
    "answer_trials",
    "draw_levels",
    "simulate_trials",
    "true_parameters",
    "write_trials",
]

Array: TypeAlias = npt.NDArray[np.float64]

#: Columns in the order an experiment records them.
RECORDED = (
    "participant",
    "experiment",
    "trial",
    "phase",
    "catch",
    "representation",
    "layer",
    "depth",
    "feature",
    "pair",
    "stimulus",
    "response",
    "correct",
    "rt",
    "confidence",
)


@dataclass(frozen=True)
class Plan:
    """A study to simulate.

    Parameters
    ----------
    spec
        The true model; its response is one column, ``correct`` or another.
    truth
        For each experiment, the true value of every term, under the names of `summary`: ``b_...``, ``sd_GROUP__TERM``,
        ``cor_GROUP__TERM__TERM`` (0 where not given), and the family's own, such as ``sigma`` or ``b_Intercept[1]``.
    participants
        People in each experiment, the careless ones included.
    representations, layers
        Levels of the condition, and layers from first to last, over which depth runs from 0 to 1; a study may have no
        layers.
    pairs
        Matched pairs of a feature in each representation, or other items, spread evenly over the layers (or values).
        With none, trials are of nothing in particular, and everyone meets every condition and value equally often.
    main, catch, practice
        Trials a person sees of each sort; the last two are right or wrong, so that they need the response ``correct``.
    within
        Whether a person sees every level of the condition, or one.
    careless
        People in each experiment who answer at chance and fast: ratings as often one as another, times and scores
        those of anybody, times a quarter of them.
    catch_accuracy, practice_accuracy
        Probability that a careful person is right there; on catch trials, where they do not lapse.
    missing_rate
        Share of main trials that were not recorded.
    rt_median, rt_sigma
        Of the lognormal response time of a careful person, in s; careless people take a quarter of it. Not used where
        ``rt`` is the response.
    lapse_sd
        SD between people of the lapse rate, whose mean is the true model's; see `psychostats.attention`.
    condition, item, moderator
        Columns of the levels, of the items, and of the number that goes with them.
    at
        Values of the moderator, from first to last; 0 to 1 over the layers where there are none.
    """

    spec: ModelSpec
    truth: Mapping[str, Mapping[str, float]]
    participants: Mapping[str, int]
    representations: tuple[str, ...]
    layers: tuple[str, ...]
    pairs: int
    main: int
    catch: int
    practice: int
    within: bool = True
    careless: int = 0
    catch_accuracy: float = 0.98
    practice_accuracy: float = 0.85
    missing_rate: float = 0.0
    rt_median: float = 6.0
    rt_sigma: float = 0.5
    lapse_sd: float = 0.0
    condition: str = "representation"
    item: str = "pair"
    moderator: str = "depth"
    at: tuple[float, ...] = ()

    @property
    def response(self) -> str:
        """The column that is answered."""
        return self.spec.formula.response.successes

    @property
    def places(self) -> int:
        """How many layers or values there are; 1 where there are none."""
        return len(self.at) or len(self.layers) or 1

    @property
    def recorded(self) -> list[str]:
        """The columns of its trials, in the order an experiment records them."""
        own = {"representation": self.condition, "depth": self.moderator, "pair": self.item}
        columns = [own.get(name, name) for name in RECORDED]
        unsaid = set()
        if not self.layers:
            unsaid |= {"layer"} | (set() if self.at else {self.moderator})
        if not self.pairs or (self.condition, self.item) != ("representation", "pair"):
            unsaid |= {"feature", "stimulus"}
        unsaid |= set() if self.pairs else {self.item}
        if self.response != "correct":
            unsaid |= {"response", "correct", "confidence", "catch"} - {self.response}
            columns = [
                self.response if name == "correct" and self.response not in RECORDED else name for name in columns
            ]
        return [name for name in columns if name not in unsaid]


@dataclass(frozen=True)
class People:
    """Who answers trials that are given.

    Parameters
    ----------
    spec
        The true model, which may name any column of the trials.
    truth
        The true value of every term; one model holds for all experiments, so that a pair is the same pair in each.
    careless, catch_accuracy, practice_accuracy, missing_rate, rt_median, rt_sigma, lapse_sd
        As of `Plan`.
    """

    spec: ModelSpec
    truth: Mapping[str, float]
    careless: int = 0
    catch_accuracy: float = 0.98
    practice_accuracy: float = 0.85
    missing_rate: float = 0.0
    rt_median: float = 6.0
    rt_sigma: float = 0.5
    lapse_sd: float = 0.0


def answer_trials(people: People, trials: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Answer trial lists, with what is known of their stimuli.

    Parameters
    ----------
    people
        Who answers, and what is true of them.
    trials
        One row a trial: ``participant, experiment, trial, phase, catch, target_side`` (left, right), and every column
        that the true model names, as `psychostats.features.attach_features` gives them.
    seed
        Two calls with one seed agree.

    Returns
    -------
    DataFrame
        The trials in their order, columns `RECORDED` and, where the lists have it, ``version``.

    Raises
    ------
    InputError
        If a column of the true model is missing, a main trial lacks one of its values, or a true value is missing or
        unknown.
    """
    if seed < 0:
        raise InputError(f"the seed {seed} is negative; seeds are whole numbers from 0.")
    rng = np.random.default_rng([seed, 0])
    table = trials.reset_index(drop=True).copy()
    main = (table["phase"] == "main") & ~table["catch"].astype(bool)
    for name in (*people.spec.formula.variables, "target_side"):
        if name in people.spec.formula.response.columns:
            continue
        if name not in table:
            raise InputError(f"the true model names '{name}', which the trials lack{nearest(name, table.columns)}.")
        if table.loc[main, name].isna().any():
            raise InputError(f"a main trial has no '{name}', which the true model needs.")
    rows = table[main]
    answered = rows.assign(**dict.fromkeys(people.spec.formula.response.columns, 0))
    coding = code(people.spec.formula, answered)
    table["correct"] = np.nan
    rates = draw_rates(rng, people.spec.family, people.lapse_sd, table["participant"])
    own = with_rates(people.spec.family, rates, rows["participant"])
    table.loc[main, "correct"] = _answer(rng, own, coding, rows, people.truth)
    catch = table["catch"].astype(bool)
    caught = catch_probability(
        with_rates(people.spec.family, rates, table.loc[catch, "participant"]), people.catch_accuracy
    )
    for some, right in ((table["phase"] == "practice", people.practice_accuracy), (catch, caught)):
        table.loc[some, "correct"] = (rng.uniform(size=int(some.sum())) < right).astype(float)
    careless = pd.Series(False, index=table.index)
    for _, part in table.groupby("experiment", sort=False, observed=True):
        names = part["participant"].unique()
        chosen = rng.choice(names, size=min(people.careless, len(names)), replace=False)
        careless |= (table["experiment"] == part["experiment"].iloc[0]) & table["participant"].isin(chosen)
    given = table["correct"].to_numpy()
    table.loc[careless, "correct"] = _answer_carelessly(rng, people.spec.family, given, careless.to_numpy())
    _record_answers(people, table, careless.to_numpy(), rng, target=(table["target_side"] == "right").to_numpy())
    return table[[name for name in (*RECORDED, "version") if name in table]]


def simulate_trials(plan: Plan, seed: int) -> pd.DataFrame:
    """Simulate every experiment of a plan.

    Parameters
    ----------
    plan
        Who sees what, and what is true.
    seed
        Two calls with one seed agree; experiments are independent of one another's size.

    Returns
    -------
    DataFrame
        One row a trial, columns `Plan.recorded`: `RECORDED` for a study of representations.

    Raises
    ------
    InputError
        If a true value is missing or unknown, or a person would see more main trials than there are pairs, or more
        catch or practice trials than main ones, which they are taken from; or the response is not one column.
    """
    if seed < 0:
        raise InputError(f"the seed {seed} is negative; seeds are whole numbers from 0.")
    if len(set(plan.layers)) < len(plan.layers) or len(set(plan.representations)) < 2:
        raise InputError(f"a simulation needs layers that differ and two {plural(plan.condition)} or more.")
    if plan.at and plan.layers and len(plan.at) != len(plan.layers):
        raise InputError(f"{len(plan.at)} values of {plan.moderator} cannot go with {len(plan.layers)} layers.")
    if plan.pairs and plan.main > plan.pairs:
        raise InputError(f"{plan.main} main trials a person need as many {plural(plan.item)}; there are {plan.pairs}.")
    if plan.spec.formula.response.counts:
        raise InputError("answers are simulated trial by trial; give a response of one column, 0 or 1.")
    if plan.response != "correct" and (plan.catch or plan.practice):
        raise InputError(
            f"catch and practice trials are right or wrong, and the response here is '{plan.response}'; ask for none."
        )
    for sort in ("catch", "practice"):
        if getattr(plan, sort) > plan.main:
            raise InputError(
                f"{getattr(plan, sort)} {sort} trials a person need as many main ones; there are {plan.main}."
            )
    tables = []
    first = 1
    for place, (experiment, people) in enumerate(plan.participants.items()):
        rng = np.random.default_rng([seed, place])
        tables.append(_simulate_experiment(plan, experiment, people, first, rng))
        first += people
    return pd.concat(tables, ignore_index=True)


def _simulate_experiment(
    plan: Plan, experiment: str, people: int, first: int, rng: np.random.Generator
) -> pd.DataFrame:
    width = max(3, len(str(sum(plan.participants.values()))))  # so that names sort as they count
    names = [f"P{first + i:0{width}d}" for i in range(people)]
    main = _main_trials(plan, names, rng)
    formula, family, response = plan.spec.formula, plan.spec.family, plan.response
    answered = main.assign(**dict.fromkeys(formula.response.columns, 0))
    coding = code(formula, answered, thresholds=family.ordinal)
    if experiment not in plan.truth:
        raise InputError(f"experiment '{experiment}' has no true values; given are {', '.join(plan.truth)}.")
    rates = draw_rates(rng, family, plan.lapse_sd, names)
    main[response] = _answer(rng, with_rates(family, rates, main["participant"]), coding, main, plan.truth[experiment])
    tables = [main]
    if response == "correct":
        catch = _side_trials(main, names, plan.catch, rng)
        right = catch_probability(with_rates(family, rates, catch["participant"]), plan.catch_accuracy)
        catch["catch"], catch["correct"] = True, (rng.uniform(size=len(catch)) < right).astype(float)
        unshown = {"feature": None, plan.item: None}
        practice = _side_trials(main, names, plan.practice, rng).assign(phase="practice", **unshown)
        practice["correct"] = (rng.uniform(size=len(practice)) < plan.practice_accuracy).astype(float)
        tables += [catch, practice]
    table = pd.concat(tables, ignore_index=True)
    table["experiment"] = experiment
    careless = table["participant"].isin(rng.choice(names, size=min(plan.careless, people), replace=False))
    table.loc[careless, response] = _answer_carelessly(rng, family, table[response].to_numpy(), careless.to_numpy())
    _record_answers(plan, table, careless.to_numpy(), rng)
    # Practice comes first; catch trials stand anywhere among the main ones.
    table["order"] = np.where(table["phase"] == "practice", -1.0, rng.uniform(size=len(table)))
    table = table.sort_values(["participant", "order"], kind="stable", ignore_index=True)
    table["trial"] = table.groupby("participant").cumcount() + 1
    recorded = plan.recorded
    if "stimulus" in recorded:
        letter = dict(zip(plan.representations, _shorten(plan.representations, 1), strict=True))
        table["stimulus"] = (
            dict(zip(plan.participants, _shorten(plan.participants, 3), strict=True))[experiment]
            + "-"
            + table["pair"].fillna("practice").astype(str)
            + "-"
            + table["representation"].astype(str).map(letter)
            + np.where(table["catch"], "-catch", "")
        )
    return table[recorded]


def _shorten(names: Iterable[str], least: int) -> list[str]:
    """Cut names to one length, at least `least`, at which they still differ."""
    whole = list(names)
    lengths = range(least, max(map(len, whole)) + 1)
    length = next((n for n in lengths if len({name[:n] for name in whole}) == len(whole)), None)
    return [name[:length] for name in whole]


def _main_trials(plan: Plan, names: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Deal items and conditions so that each is seen equally often, and no item twice by one person."""
    people, size = len(names), plan.pairs or plan.main
    deck = rng.permutation(size)
    step = np.arange(people * plan.main)
    lap, place = np.divmod(step, size)
    person = step // plan.main
    kinds = len(plan.representations)
    item = deck[place]
    if not plan.within:
        kind = rng.permutation(np.arange(people) % kinds)[person]
    elif plan.pairs:
        # Successive cards alternate and every lap shifts by one, so each item comes round in each condition.
        kind = (place + lap) % kinds
    else:  # trials of nothing in particular: each person crosses conditions and values
        kind = (item + person) % kinds
    at = item * plan.places // size
    spread = np.round(np.linspace(0.0, 1.0, plan.places), 4) if plan.places > 1 else np.zeros(1)
    ids = np.array([f"{plan.item}{i + 1:02d}" for i in range(size)], dtype=object)
    table = pd.DataFrame(
        {
            "participant": np.array(names, dtype=object)[person],
            "phase": "main",
            "catch": False,
            plan.condition: pd.Categorical.from_codes(kind.tolist(), categories=pd.Index(plan.representations)),
            plan.moderator: (np.array(plan.at) if plan.at else spread)[at],
            plan.item: ids[item],
        }
    )
    if plan.layers:
        table["layer"] = pd.Categorical.from_codes(at.tolist(), categories=pd.Index(plan.layers))
    table["feature"] = table[plan.item] + "-" + table[plan.condition].astype(str)
    return table


def _side_trials(main: pd.DataFrame, names: list[str], count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Take for each person `count` of their own main trials as models for catch or practice trials."""
    each = len(main) // len(names)
    picks = np.concatenate([i * each + rng.choice(each, size=count, replace=False) for i in range(len(names))])
    return main.iloc[picks].reset_index(drop=True)


def _answer(
    rng: np.random.Generator, family: Family, coding: Coding, rows: pd.DataFrame, truth: Mapping[str, float]
) -> Array:
    """Draw the effects of every level and then the response of every row, shape ``(rows,)``."""
    design = coding.design(rows.assign(**dict.fromkeys(coding.formula.response.columns, 1)))
    parameters = draw_levels(rng, true_parameters(coding, design.blocks, truth, family), design.blocks)
    eta = linear_predictor(design, parameters)[0]
    filled = family.at(parameters.family, design.scale)
    return np.asarray(filled.draw(rng, np.ones(len(rows)), eta)).reshape(-1)


def _answer_carelessly(
    rng: np.random.Generator, family: Family, given: Array, careless: npt.NDArray[np.bool_]
) -> Array:
    """Return what careless people say: at chance, one rating as often as another, or what somebody else measured."""
    count = int(careless.sum())
    if family.response == "answers":
        return np.asarray((rng.uniform(size=count) < (family.guess or 0.5)).astype(float))
    if family.response == "rating":
        return np.asarray(rng.integers(1, int(given.max()) + 1, size=count).astype(float))
    drawn = rng.choice(given, size=count)
    return np.asarray(drawn / 4.0 if family.response == "positive" else drawn)


def _record_answers(
    plan: Plan | People,
    table: pd.DataFrame,
    careless: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    target: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Add side, response time and confidence, and lose a few main trials, as recordings do.

    `target` says where the target is to the right; without it a coin does.
    """
    people = table["participant"].unique()
    response = plan.spec.formula.response.successes
    if response != "rt":
        pace = pd.Series(rng.normal(0.0, 0.25, size=len(people)), index=people)
        speed = np.log(plan.rt_median) + table["participant"].map(pace).to_numpy()
        speed -= np.where(careless, np.log(4.0), 0.0)
        table["rt"] = np.round(np.exp(speed + plan.rt_sigma * rng.standard_normal(len(table))), 3)
    if response == "correct":
        correct_side = rng.integers(0, 2, size=len(table)) if target is None else target.astype(int)
        right = table["correct"].to_numpy() == 1
        table["response"] = np.where(correct_side == np.where(right, 1, 0), "right", "left")
        table["confidence"] = np.clip(rng.binomial(2, np.where(right, 0.65, 0.4)) + 1, 1, 3).astype(float)
    elif plan.spec.family.response in ("number", "positive"):
        table[response] = np.round(table[response], 4)
    lost = (table["phase"] == "main") & ~table["catch"] & (rng.uniform(size=len(table)) < plan.missing_rate)
    table.loc[lost, [name for name in dict.fromkeys((response, "rt", "confidence")) if name in table]] = np.nan
    if response == "correct":
        table.loc[lost, "response"] = None


def write_trials(table: pd.DataFrame, path: Path) -> None:
    """Write trials as CSV (or Parquet, by the file's ending) that reads back to the same values."""
    out = table.copy()
    for name in out.columns:  # answers and ratings, which a lost trial made floating
        whole = out[name].dropna()
        if name not in ("rt", "depth") and whole.dtype == float and len(whole) and (whole == whole.round()).all():
            out[name] = out[name].astype("Int64")
    if path.suffix == ".parquet":
        out.to_parquet(path, index=False)
    else:
        out.to_csv(path, index=False, lineterminator="\n")
