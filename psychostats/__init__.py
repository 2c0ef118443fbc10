"""Hierarchical Bayesian psychophysics with R-style formulas: which representation of a network can people understand?

>>> import psychostats as ps
>>> trials = ps.read_trials("trials.csv")
>>> fit = ps.fit("correct ~ representation * depth + (1 + representation | participant)", trials, family="afc")
>>> fit.terms()
>>> ps.contrasts(fit, "representation")

A room is imported when a name of it is first asked for: whoever reads trials does not wait for what draws figures.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
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
        Interrupted,
        NoMaximumError,
        OverBudget,
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

# The imports above, as they are done: a room, and what of it is offered here. The tests hold that both are the same.
_ROOMS = {
    "agreement": ("second_opinions",),
    "bayes_factor": ("bayes_factor",),
    "checks": ("calibration", "predictive_accuracy", "prior_predictive_accuracy"),
    "compare": ("compare",),
    "confidence": ("confidence_intervals",),
    "effects": ("contrasts", "discriminability", "interactions", "marginal_means", "slopes"),
    "emmeans": ("contrast", "emmeans", "emtrends", "pairs"),
    "errors": (
        "DataError",
        "Fault",
        "FitError",
        "FormulaError",
        "InputError",
        "Interrupted",
        "NoMaximumError",
        "OverBudget",
        "PriorError",
        "PsychostatsError",
        "StudyError",
    ),
    "exclusions": ("Exclusions", "apply_exclusions"),
    "features": ("FeaturesRun", "attach_features", "read_run"),
    "fit": ("Fit", "fit", "load_fit"),
    "formula": ("parse_formula",),
    "intervals": ("Interval",),
    "kfold": ("kfold",),
    "marginal": ("avg_slopes", "comparisons", "predictions"),
    "sensitivity": ("prior_sensitivity",),
    "simulate": ("simulate_trials",),
    "spec": ("ModelSpec", "specify"),
    "study": ("Study", "read_study"),
    "trials": ("check_trials", "read_trials"),
    "variance": ("variance_shares",),
}
_ROOM = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("psychostats")
    elif name in _ROOM:
        value = getattr(importlib.import_module(f"psychostats.{_ROOM[name]}"), name)
    else:
        raise AttributeError(f"module 'psychostats' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Face(ModuleType):
    """The package as a module that keeps its names: ``fit`` is the function, though a room has that name too."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds every room that it imports to its package, and would so hide the function of the same name.
        if not (name in _ROOM and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face

__all__ = [
    "DataError",
    "Exclusions",
    "Fault",
    "FeaturesRun",
    "Fit",
    "FitError",
    "FormulaError",
    "InputError",
    "Interrupted",
    "Interval",
    "ModelSpec",
    "NoMaximumError",
    "OverBudget",
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
