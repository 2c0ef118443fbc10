"""Trials from known parameters: a whole study with its practice and catch trials, its slips and its careless people.

In: a `Plan`, which says who sees what and what is true; or trial lists that were made elsewhere, and `People` who
answer them.  Out: a trial table as an experiment would record it.  Knows no file and no fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from psychostats.design import Block, Coding, code
from psychostats.errors import InputError, nearest
from psychostats.predictor import Parameters, linear_predictor
from psychostats.spec import ModelSpec

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
        The true model.
    truth
        For each experiment, the true value of every term, under the names of `summary`: ``b_...``, ``sd_GROUP__TERM``,
        ``cor_GROUP__TERM__TERM`` (0 where not given).
    participants
        People in each experiment, the careless ones included.
    representations, layers
        Levels; layers from first to last, depth runs from 0 to 1 over them.
    pairs
        Matched pairs of a feature in each representation, spread evenly over the layers.
    main, catch, practice
        Trials a person sees of each sort.
    within
        Whether a person sees every representation, or one.
    careless
        People in each experiment who answer at chance and fast.
    catch_accuracy, practice_accuracy
        Probability that a careful person is right there.
    missing_rate
        Share of main trials that were not recorded.
    rt_median, rt_sigma
        Of the lognormal response time of a careful person, in s; careless people take a quarter of it.
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


@dataclass(frozen=True)
class People:
    """Who answers trials that are given.

    Parameters
    ----------
    spec
        The true model, which may name any column of the trials.
    truth
        The true value of every term; one model holds for all experiments, so that a pair is the same pair in each.
    careless, catch_accuracy, practice_accuracy, missing_rate, rt_median, rt_sigma
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
    blocks = coding.random(answered)
    parameters = draw_levels(rng, true_parameters(coding, blocks, people.truth), blocks)
    eta = _predict(coding, blocks, rows, parameters)
    table["correct"] = np.nan
    table.loc[main, "correct"] = people.spec.family.draw(rng, np.ones(len(rows)), eta)
    for some, right in (
        (table["phase"] == "practice", people.practice_accuracy),
        (table["catch"].astype(bool), people.catch_accuracy),
    ):
        table.loc[some, "correct"] = (rng.uniform(size=int(some.sum())) < right).astype(float)
    careless = pd.Series(False, index=table.index)
    for _, part in table.groupby("experiment", sort=False, observed=True):
        names = part["participant"].unique()
        chosen = rng.choice(names, size=min(people.careless, len(names)), replace=False)
        careless |= (table["experiment"] == part["experiment"].iloc[0]) & table["participant"].isin(chosen)
    chance = people.spec.family.guess or 0.5
    table.loc[careless, "correct"] = (rng.uniform(size=int(careless.sum())) < chance).astype(float)
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
        One row a trial, columns `RECORDED`.

    Raises
    ------
    InputError
        If a true value is missing or unknown, or a person would see more main trials than there are pairs, or more
        catch or practice trials than main ones, which they are taken from.
    """
    if seed < 0:
        raise InputError(f"the seed {seed} is negative; seeds are whole numbers from 0.")
    if len(set(plan.layers)) < len(plan.layers) or len(set(plan.representations)) < 2:
        raise InputError("a simulation needs layers that differ and two representations or more.")
    if plan.main > plan.pairs:
        raise InputError(f"{plan.main} main trials a person need as many pairs; there are {plan.pairs}.")
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


def true_parameters(coding: Coding, blocks: tuple[Block, ...], truth: Mapping[str, float]) -> Parameters:
    """Arrange true values for a coding, one draw, without effects of levels.

    Raises
    ------
    InputError
        If a value is missing, unknown, or the correlations are no correlation matrix.
    """
    left, known = dict(truth), list[str]()

    def take(name: str, default: float | None = None) -> float:
        known.append(name)
        if name not in left and default is None:
            raise InputError(f"the true value of {name} is missing; given are {', '.join(truth)}.")
        value = float(left.pop(name, default if default is not None else 0.0))
        if not np.isfinite(value):
            raise InputError(f"the true value of {name} is {value}; it must be a finite number.")
        return value

    b = np.array([[take(f"b_{name}") for name in coding.names]])
    covariance = []
    for block in blocks:
        sd = np.array([take(f"sd_{block.group}__{term}") for term in block.terms])
        correlation = np.eye(len(sd))
        for j, later in enumerate(block.terms if block.structure == "correlated" else ()):
            for k, earlier in enumerate(block.terms[:j]):
                correlation[j, k] = correlation[k, j] = take(f"cor_{block.group}__{earlier}__{later}", 0.0)
        if (sd < 0).any() or np.linalg.eigvalsh(correlation).min() < -1e-12:
            raise InputError(f"the true SDs and correlations of {block.group} are no covariance matrix.")
        covariance.append((sd[:, np.newaxis] * correlation * sd)[np.newaxis])
    if left:
        name = next(iter(left))
        raise InputError(f"the true value {name} is no term of the model{nearest(name, known)}.")
    return Parameters(b, tuple(covariance))


def draw_levels(rng: np.random.Generator, parameters: Parameters, blocks: tuple[Block, ...]) -> Parameters:
    """Draw the effects of every level of every block from its covariance."""
    r = []
    for block, covariance in zip(blocks, parameters.covariance, strict=True):
        # The symmetric root, since a true SD may be 0, where Cholesky fails.
        values, vectors = np.linalg.eigh(covariance[0])
        root = vectors * np.sqrt(np.clip(values, 0.0, None))
        r.append((rng.standard_normal((len(block.levels), len(block.terms))) @ root.T)[np.newaxis])
    return Parameters(parameters.b, parameters.covariance, tuple(r))


def _simulate_experiment(
    plan: Plan, experiment: str, people: int, first: int, rng: np.random.Generator
) -> pd.DataFrame:
    width = max(3, len(str(sum(plan.participants.values()))))  # so that names sort as they count
    names = [f"P{first + i:0{width}d}" for i in range(people)]
    main = _main_trials(plan, names, rng)
    coding = code(plan.spec.formula, main.assign(**dict.fromkeys(plan.spec.formula.response.columns, 0)))
    blocks = coding.random(main)
    if experiment not in plan.truth:
        raise InputError(f"experiment '{experiment}' has no true values; given are {', '.join(plan.truth)}.")
    parameters = draw_levels(rng, true_parameters(coding, blocks, plan.truth[experiment]), blocks)
    eta = _predict(coding, blocks, main, parameters)
    main["correct"] = plan.spec.family.draw(rng, np.ones(len(main)), eta)
    catch = _side_trials(main, names, plan.catch, rng)
    catch["catch"], catch["correct"] = True, (rng.uniform(size=len(catch)) < plan.catch_accuracy).astype(float)
    practice = _side_trials(main, names, plan.practice, rng).assign(phase="practice", feature=None, pair=None)
    practice["correct"] = (rng.uniform(size=len(practice)) < plan.practice_accuracy).astype(float)
    table = pd.concat([main, catch, practice], ignore_index=True)
    table["experiment"] = experiment
    careless = table["participant"].isin(rng.choice(names, size=min(plan.careless, people), replace=False))
    chance = plan.spec.family.guess or 0.5
    table.loc[careless, "correct"] = (rng.uniform(size=int(careless.sum())) < chance).astype(float)
    _record_answers(plan, table, careless.to_numpy(), rng)
    # Practice comes first; catch trials stand anywhere among the main ones.
    table["order"] = np.where(table["phase"] == "practice", -1.0, rng.uniform(size=len(table)))
    table = table.sort_values(["participant", "order"], kind="stable", ignore_index=True)
    table["trial"] = table.groupby("participant").cumcount() + 1
    letter = dict(zip(plan.representations, _shorten(plan.representations, 1), strict=True))
    table["stimulus"] = (
        dict(zip(plan.participants, _shorten(plan.participants, 3), strict=True))[experiment]
        + "-"
        + table["pair"].fillna("practice").astype(str)
        + "-"
        + table["representation"].astype(str).map(letter)
        + np.where(table["catch"], "-catch", "")
    )
    return table[list(RECORDED)]


def _shorten(names: Iterable[str], least: int) -> list[str]:
    """Cut names to one length, at least `least`, at which they still differ."""
    whole = list(names)
    lengths = range(least, max(map(len, whole)) + 1)
    length = next((n for n in lengths if len({name[:n] for name in whole}) == len(whole)), None)
    return [name[:length] for name in whole]


def _main_trials(plan: Plan, names: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Deal pairs and representations so that each is seen equally often, and no pair twice by one person."""
    people = len(names)
    deck = rng.permutation(plan.pairs)
    step = np.arange(people * plan.main)
    lap, place = np.divmod(step, plan.pairs)
    person = step // plan.main
    kinds = len(plan.representations)
    # Successive cards alternate and every lap shifts by one, so each pair comes round in each representation.
    kind = (place + lap) % kinds if plan.within else rng.permutation(np.arange(people) % kinds)[person]
    pair = deck[place]
    layer = pair * len(plan.layers) // plan.pairs
    depth = np.round(np.linspace(0.0, 1.0, len(plan.layers)), 4) if len(plan.layers) > 1 else np.zeros(1)
    ids = np.array([f"pair{i + 1:02d}" for i in range(plan.pairs)], dtype=object)
    table = pd.DataFrame(
        {
            "participant": np.array(names, dtype=object)[person],
            "phase": "main",
            "catch": False,
            "representation": pd.Categorical.from_codes(kind.tolist(), categories=pd.Index(plan.representations)),
            "layer": pd.Categorical.from_codes(layer.tolist(), categories=pd.Index(plan.layers)),
            "depth": depth[layer],
            "pair": ids[pair],
        }
    )
    table["feature"] = table["pair"] + "-" + table["representation"].astype(str)
    return table


def _side_trials(main: pd.DataFrame, names: list[str], count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Take for each person `count` of their own main trials as models for catch or practice trials."""
    each = len(main) // len(names)
    picks = np.concatenate([i * each + rng.choice(each, size=count, replace=False) for i in range(len(names))])
    return main.iloc[picks].reset_index(drop=True)


def _predict(coding: Coding, blocks: tuple[Block, ...], rows: pd.DataFrame, parameters: Parameters) -> Array:
    design = coding.design(rows.assign(**dict.fromkeys(coding.formula.response.columns, 1)))
    return np.asarray(linear_predictor(design, parameters)[0])


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
    pace = pd.Series(rng.normal(0.0, 0.25, size=len(people)), index=people)
    speed = np.log(plan.rt_median) + table["participant"].map(pace).to_numpy() - np.where(careless, np.log(4.0), 0.0)
    table["rt"] = np.round(np.exp(speed + plan.rt_sigma * rng.standard_normal(len(table))), 3)
    correct_side = rng.integers(0, 2, size=len(table)) if target is None else target.astype(int)
    right = table["correct"].to_numpy() == 1
    table["response"] = np.where(correct_side == np.where(right, 1, 0), "right", "left")
    table["confidence"] = np.clip(rng.binomial(2, np.where(right, 0.65, 0.4)) + 1, 1, 3).astype(float)
    lost = (table["phase"] == "main") & ~table["catch"] & (rng.uniform(size=len(table)) < plan.missing_rate)
    table.loc[lost, ["correct", "rt", "confidence"]] = np.nan
    table.loc[lost, "response"] = None


def write_trials(table: pd.DataFrame, path: Path) -> None:
    """Write trials as CSV (or Parquet, by the file's ending) that reads back to the same values."""
    out = table.copy()
    for name in ("correct", "confidence"):
        out[name] = out[name].astype("Int64")
    if path.suffix == ".parquet":
        out.to_parquet(path, index=False)
    else:
        out.to_csv(path, index=False, lineterminator="\n")
