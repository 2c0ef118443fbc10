"""What follows from one fit of one experiment: means, contrasts, slopes, checks, and in a simulated study the truth.

In: a fit, its trials and the study.  Out: a `Result` of tidy tables.  Knows no other experiment, no words and no
figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from psychostats.checks import calibration, most_outside, predictive_accuracy, prior_predictive_accuracy
from psychostats.design import Coding
from psychostats.detection import detection
from psychostats.effects import contrasts, interactions, marginal_means, slopes
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.predictor import Parameters
from psychostats.settings import ModelTable
from psychostats.simulate import true_parameters
from psychostats.spec import ModelSpec
from psychostats.study import Study
from psychostats.uncertainty import Sampled

ALL = "all"
"""What a study without experiments calls its one experiment."""

#: Columns that name what was shown, the one that most models have as a group first.
ITEMS = ("pair", "feature", "stimulus")


@dataclass(frozen=True)
class Result:
    """One model fitted to one experiment, and what follows.

    Parameters
    ----------
    experiment
        Its name; `ALL` where the trials name none.
    model
        As the study file has it.
    fit
        The fit.
    means, contrasts, slopes, interaction
        Tables of `psychostats.effects`; `slopes` and `interaction` are empty without a moderator.
    curve
        Marginal means along the moderator, for the figure.
    cells, participants, items, features
        Observed against predicted accuracy, by the factor and layer (or moderator), by participant, by what was shown
        (the first of `ITEMS` that the trials have; None without), and by feature where that is another column.
    calibration
        Observed share of correct answers along the predicted probability; empty where a response is no answer.
    prior
        Prior predictive accuracy.
    truth
        In a simulated study, the true headline contrast, its true interaction, and the true rows of `detection`, as
        those tables have them; empty where what is true of this model is not known.
    pattern
        With another factor (``[effects] by``): the contrast at each of its levels, its own contrast at each level of
        the factor, and the change of the one with the other, as `psychostats.effects` has them; ``of`` and ``at`` say
        which factor is contrasted, and at which level of the other. Empty without one.
    detection
        Where the study is one of detection, d' and criterion at the moderator's mean and along it, as
        `psychostats.detection` has them.
    """

    experiment: str
    model: ModelTable
    fit: Fit
    means: pd.DataFrame
    contrasts: pd.DataFrame
    slopes: pd.DataFrame
    interaction: pd.DataFrame
    curve: pd.DataFrame
    cells: pd.DataFrame
    participants: pd.DataFrame
    items: pd.DataFrame | None
    features: pd.DataFrame | None
    calibration: pd.DataFrame
    prior: pd.DataFrame
    truth: pd.DataFrame
    pattern: pd.DataFrame
    detection: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def label(self) -> str:
        """The experiment's name, and where its numbers may not be read, that."""
        return self.experiment if self.fit.converged else f"{self.experiment} (not converged)"

    @property
    def predictive(self) -> pd.DataFrame:
        """How many groups lie inside their predictive interval: ``what, groups, inside, allowed, misfit``.

        `allowed` is how many may lie outside (`psychostats.checks.most_outside`); `misfit` says that more do.
        """
        tables = (self.cells, self.participants, self.items, self.features)
        made = [table for table in tables if table is not None]
        rows = []
        for table in made:
            split = list(table.columns[: table.columns.get_loc("n")])
            groups, inside = len(table), int(table["inside"].sum())
            allowed = most_outside(groups, float(table["conf_level"].iloc[0]))
            rows.append((" and ".join(split), groups, inside, allowed, groups - inside > allowed))
        return pd.DataFrame(rows, columns=["what", "groups", "inside", "allowed", "misfit"])

    @property
    def headline(self) -> pd.DataFrame:
        """Contrasts with the moderator at its mean: what the report is about."""
        rows = self.contrasts
        return rows[rows[".at"] == "mean"] if ".at" in rows else rows


@dataclass(frozen=True)
class Known:
    """A model whose parameters are known, for `psychostats.effects`."""

    spec: ModelSpec
    coding: Coding
    interval: Interval
    truth: Parameters

    @property
    def uncertainty(self) -> Sampled:
        """What the rows of `parameters` are: draws, of which there is one."""
        return Sampled()

    def parameters(self) -> Parameters:
        """Return the true value of every parameter, as one draw."""
        return self.truth


def summarise_fit(study: Study, experiment: str, model: ModelTable, made: Fit, rows: pd.DataFrame) -> Result:
    """Make the tables that follow from one fit."""
    table = study.effects
    interval, factor, moderator = table.as_interval(), table.factor, table.moderator
    moderated = moderator is not None and moderator in made.coding.ranges
    at = {str(moderator): list(table.places)} if moderated else None
    at_mean = contrasts(made, factor, interval=interval)
    link = contrasts(made, factor, scale="link", interval=interval)
    parts, slope, interaction, curve = [at_mean, link], pd.DataFrame(), pd.DataFrame(), pd.DataFrame()
    means = [marginal_means(made, factor, interval=interval)]
    if moderated:
        assert at is not None
        parts = [part.assign(**{".at": "mean"}) for part in parts]
        parts += [
            contrasts(made, factor, by=at, scale=scale, interval=interval).assign(**{".at": "value"})
            for scale in ("response", "link")
        ]
        means.append(marginal_means(made, factor, by=at, interval=interval))
        slope = slopes(made, str(moderator), by={factor: made.coding.levels[factor]}, interval=interval)
        first, *_, last = table.places
        interaction = interactions(made, factor, str(moderator), [first, last], interval=interval)
        low, _, high = made.coding.ranges[str(moderator)]
        curve = marginal_means(
            made, factor, by={str(moderator): [float(x) for x in np.linspace(low, high, 25)]}, interval=interval
        )
        curve[factor] = _level_of(curve["term"], factor, made)
    known = _known(study, experiment, made)
    truth = pd.DataFrame()
    if known is not None:
        ends = [table.places[0], table.places[-1]]
        changes = [interactions(known, factor, str(moderator), ends, interval=interval)] if moderated else []
        found = [_detected(known, factor, at, interval)] if table.detection else []
        truth = pd.concat([contrasts(known, factor, interval=interval), *changes, *found], ignore_index=True)
    item = next((name for name in (*ITEMS, study.design.item) if name != table.factor and _whole(rows, name)), None)
    name = _cell_column(study, rows)
    labels = rows[[factor, name] if name else [factor]]
    frames = [pd.concat(frame, ignore_index=True) for frame in (means, parts)]
    frames[0][factor] = _level_of(frames[0]["term"], factor, made)
    group, binary = study.report.group, made.spec.family.binary

    def by(column: str) -> pd.DataFrame:
        return predictive_accuracy(made, rows[[column]].astype(str), interval=interval)

    return Result(
        experiment=experiment,
        model=model,
        fit=made,
        means=frames[0],
        contrasts=frames[1],
        slopes=slope,
        interaction=interaction,
        curve=curve,
        cells=predictive_accuracy(made, labels, interval=interval),
        participants=by(group),
        items=by(item) if item else None,
        features=by("feature") if item not in (None, "feature") and _whole(rows, "feature") else None,
        calibration=calibration(made, interval=Interval("eti", interval.probability)) if binary else pd.DataFrame(),
        prior=prior_predictive_accuracy(made, factor),
        truth=truth,
        pattern=cross(made, factor, table.by, interval) if table.by in made.coding.levels else pd.DataFrame(),
        detection=_detected(made, factor, at, interval) if table.detection else pd.DataFrame(),
    )


def _detected(made: Fit | Known, factor: str, at: dict[str, list[float]] | None, interval: Interval) -> pd.DataFrame:
    """Return d' and criterion with the moderator at its mean and, where there is one, at its values."""
    parts = [detection(made, factor, interval=interval)]
    if at:
        parts.append(detection(made, factor, by=at, interval=interval))
    return pd.concat([part.astype({"contrast": object}) for part in parts], ignore_index=True)


def cross(made: Fit, factor: str, other: str, interval: Interval) -> pd.DataFrame:
    """Contrast each of two factors at the levels of the other, and every change of a contrast between two levels."""
    parts = []
    for one, two in ((factor, other), (other, factor)):
        levels = list(made.coding.levels[two])
        each = contrasts(made, one, by={two: levels}, interval=interval).rename(columns={two: "at"})
        changes = [interactions(made, one, two, [a, b], interval=interval) for a, b in combinations(levels, 2)]
        parts += [part.assign(of=one) for part in (each, *changes)]
    table = pd.concat(parts, ignore_index=True)
    return table[(table["scale"] == "difference")].reset_index(drop=True)


def _whole(rows: pd.DataFrame, name: str) -> bool:
    """Whether every row has a value of a column."""
    return name in rows and bool(rows[name].notna().all())


def _known(study: Study, experiment: str, made: Fit) -> Known | None:
    """Return the true model of a simulated study in the coding of a fit, if it is the model that was fitted."""
    if not study.study.simulated or study.simulate is None or not study.simulate.truth:
        return None
    spec, truth = study.simulate.spec(), study.plan().truth
    same = (spec.formula, spec.family) == (made.spec.formula, made.spec.family)
    if not same or experiment not in truth:
        return None
    try:
        parameters = true_parameters(made.coding, made.design.blocks, truth[experiment], spec.family)
    except InputError:  # its terms bear other names, those of other levels or codings
        return None
    return Known(spec, made.coding, made.interval, parameters)


def _level_of(terms: pd.Series[str], factor: str, made: Fit) -> pd.Categorical[Any]:
    """Return the factor's level that each row of marginal means is about."""
    return pd.Categorical(terms.str.slice(len(factor)), categories=list(made.coding.levels[factor]))


def _cell_column(study: Study, rows: pd.DataFrame) -> str | None:
    """Return the column that splits the predictive check beside the factor: the layer, else a coarse moderator."""
    whole = rows.columns[rows.notna().all()].drop(study.effects.factor, errors="ignore")
    if "layer" in whole:
        return "layer"
    moderator = study.effects.moderator
    return moderator if moderator in whole and rows[moderator].nunique() <= 24 else None
