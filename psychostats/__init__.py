"""Hierarchical Bayesian psychophysics with R-style formulas: which representation of a network can people understand?

>>> import psychostats as ps
>>> trials = ps.read_trials("trials.csv")
>>> fit = ps.fit("correct ~ representation * depth + (1 + representation | participant)", trials, family="afc")
>>> fit.terms()
>>> ps.contrasts(fit, "representation")
"""

from importlib.metadata import version

from psychostats.agreement import second_opinions
from psychostats.bayes_factor import bayes_factor
from psychostats.checks import calibration, predictive_accuracy, prior_predictive_accuracy
from psychostats.compare import compare
from psychostats.confidence import confidence_intervals
from psychostats.effects import contrasts, discriminability, interactions, marginal_means, slopes
from psychostats.emmeans import contrast, emmeans, emtrends, pairs
from psychostats.errors import (
    DataError,
    Fault,
    FitError,
    FormulaError,
    InputError,
    NoMaximumError,
    PriorError,
    PsychostatsError,
    StudyError,
)
from psychostats.exclusions import Exclusions, apply_exclusions
from psychostats.features import FeaturesRun, attach_features, read_run
from psychostats.fit import Fit, fit, load_fit
from psychostats.formula import parse_formula
from psychostats.intervals import Interval
from psychostats.kfold import kfold
from psychostats.marginal import avg_slopes, comparisons, predictions
from psychostats.sensitivity import prior_sensitivity
from psychostats.simulate import simulate_trials
from psychostats.spec import ModelSpec, specify
from psychostats.study import Study, read_study
from psychostats.trials import check_trials, read_trials
from psychostats.variance import variance_shares

__version__ = version("psychostats")


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "DataError",
    "Exclusions",
    "Fault",
    "FeaturesRun",
    "Fit",
    "FitError",
    "FormulaError",
    "InputError",
    "Interval",
    "ModelSpec",
    "NoMaximumError",
    "PriorError",
    "PsychostatsError",
    "Study",
    "StudyError",
    "__version__",
    "apply_exclusions",
    "attach_features",
    "avg_slopes",
    "bayes_factor",
    "calibration",
    "check_trials",
    "compare",
    "comparisons",
    "confidence_intervals",
    "contrast",
    "contrasts",
    "discriminability",
    "emmeans",
    "emtrends",
    "fit",
    "interactions",
    "kfold",
    "load_fit",
    "marginal_means",
    "pairs",
    "parse_formula",
    "predictions",
    "predictive_accuracy",
    "prior_predictive_accuracy",
    "prior_sensitivity",
    "read_run",
    "read_study",
    "read_trials",
    "second_opinions",
    "simulate_trials",
    "slopes",
    "specify",
    "variance_shares",
]
