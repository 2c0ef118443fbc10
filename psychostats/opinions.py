"""Second and third opinions: the main model's predictors on other responses of the same trials, times and ratings.

In: a study that asks for them, and the analysed trials of each experiment.  Out: an `Opinion` each: the fit, marginal
means and contrasts.  A response of another kind has its own family, and so its own scale; nothing is pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from psychostats.effects import contrasts, marginal_means
from psychostats.errors import InputError
from psychostats.fit import Fit
from psychostats.settings import ModelTable, OpinionTable
from psychostats.study import Study


@dataclass(frozen=True)
class Opinion:
    """A model of another response, fitted to one experiment.

    Parameters
    ----------
    experiment
        Its name.
    asked
        As the study file has it.
    model
        What was fitted.
    fit
        The fit.
    means, contrasts
        Marginal means and contrasts of the study's factor on the response's scale, other predictors at their mean.
    trials
        Rows that the response was taken from; those without it are left out.
    """

    experiment: str
    asked: OpinionTable
    model: ModelTable
    fit: Fit
    means: pd.DataFrame
    contrasts: pd.DataFrame
    trials: int

    @property
    def headline(self) -> pd.DataFrame:
        """The differences in the population."""
        rows = self.contrasts
        return rows[(rows["scale"] == "difference") & (rows["target"] == "population")]


def hear(
    study: Study,
    experiments: Sequence[tuple[str, pd.DataFrame]],
    fit_to: Callable[[ModelTable, str, pd.DataFrame], Fit],
) -> tuple[Opinion, ...]:
    """Fit every opinion that a study asks for.

    Parameters
    ----------
    study
        The study file, read.
    experiments
        Names and analysed trials.
    fit_to
        Fits a model to the trials of the experiment named.

    Raises
    ------
    InputError
        If a response cannot be fitted; the sentence begins with the opinion's name.
    """
    factor, interval = study.effects.factor, study.effects.as_interval()
    heard = []
    for asked in study.opinions:
        model = asked.as_model(study.models[0])
        for experiment, rows in experiments:
            used = rows[rows["correct"] == 1] if asked.takes == "correct" else rows
            used = used[used[asked.response].notna()]
            name = f"{asked.response} in {experiment}"
            if not len(used):
                raise InputError(f"the opinion '{name}' has no trials: '{asked.response}' is blank in all of them.")
            try:
                made = fit_to(model, experiment, used)
            except InputError as error:
                raise InputError(f"the opinion '{name}': {error}") from error
            means = marginal_means(made, factor, interval=interval)
            differences = contrasts(made, factor, interval=interval)
            heard.append(Opinion(experiment, asked, model, made, means, differences, len(used)))
    return tuple(heard)
