"""Second and third opinions: the main model's predictors on other responses of the same trials, times and ratings.

In: a study that asks for them, and the analysed trials of each experiment.  Out: an `Opinion` each: the fit, marginal
means and contrasts.  A response of another kind has its own family, and so its own scale; nothing is pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from psychostats.effects import contrasts, marginal_means
from psychostats.errors import InputError
from psychostats.fit import Fit, fit
from psychostats.study import ModelTable, OpinionTable, Study


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
    folders: Mapping[tuple[str, str], Path],
    source: dict[str, str],
    *,
    progress: bool | None,
    say: Callable[[str], None],
) -> tuple[Opinion, ...]:
    """Fit every opinion that a study asks for.

    Parameters
    ----------
    study
        The study file, read.
    experiments
        Names and analysed trials.
    folders
        By model and experiment.
    source
        What to remember of where the trials came from.
    progress, say
        As for `psychostats.analysis.analyse`.

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
            say(f"fitting {name}: {len(used):,} {'correct ' if asked.takes == 'correct' else ''}trials")
            if not len(used):
                raise InputError(f"the opinion '{name}' has no trials: '{asked.response}' is blank in all of them.")
            settings = model.settings()
            try:
                made = fit(
                    model.spec(),
                    used,
                    draws=settings.draws,
                    tune=settings.tune,
                    chains=settings.chains,
                    seed=settings.seed,
                    target_accept=settings.target_accept,
                    out=folders[model.name, experiment],
                    overwrite=True,
                    progress=progress,
                    source=source,
                )
            except InputError as error:
                raise InputError(f"the opinion '{name}': {error}") from error
            for warning in made.warnings:
                say(f"  {'warning' if made.converged else 'NOT CONVERGED'}: {warning}")
            means = marginal_means(made, factor, interval=interval)
            heard.append(
                Opinion(experiment, asked, model, made, means, contrasts(made, factor, interval=interval), len(used))
            )
    return tuple(heard)
