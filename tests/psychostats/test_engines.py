"""Which engine runs, why, and what each refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from deviations import FOLDER, trials

import psychostats as ps
from psychostats.engines import ENGINES, resolve_engine
from psychostats.errors import InputError
from psychostats.maximum import Method
from psychostats.spec import specify

ANSWERS = specify("correct ~ depth + (1 | participant)")
MEASURED = specify("rt ~ depth + (1 | participant)", family="gaussian")
PRIOR = specify("correct ~ depth", priors=["b ~ normal(0, 1)"])
RATED = specify("confidence ~ depth", family="cumulative")
STEPPED = specify("correct ~ mo(layer)")


@pytest.mark.parametrize(
    ("engine", "spec", "method", "found"),
    [
        ("auto", ANSWERS, Method(), ("pymc", "auto: the only engine that samples in this version")),
        ("auto", PRIOR, None, ("pymc", "auto: the only engine that samples in this version")),
        ("auto", None, None, ("pymc", "auto: the only engine that samples in this version")),
        ("pymc", ANSWERS, Method(), ("pymc", "asked for")),
        ("laplace", ANSWERS, Method(), ("laplace", "asked for")),
        ("laplace", ANSWERS, Method(quadrature=7), ("laplace", "asked for")),
        ("laplace", MEASURED, Method(reml=True), ("laplace", "asked for")),
        ("laplace", None, None, ("laplace", "asked for")),
    ],
)
def test_the_engine_and_its_reason(engine, spec, method, found) -> None:
    assert resolve_engine(engine, spec, method) == found


@pytest.mark.parametrize(
    ("engine", "spec", "method", "words"),
    [
        (
            "laplac",
            ANSWERS,
            Method(),
            r"'laplac' is unknown .did you mean 'laplace'.*allowed are auto, pymc, nuts, lap",
        ),
        ("nuts", ANSWERS, Method(), "'nuts' is not part of this version; use --engine pymc"),
        ("laplace", PRIOR, Method(), "takes no priors; leave out --prior, or use --engine pymc"),
        ("laplace", ANSWERS, Method(reml=True), "REML is for the family gaussian; 'bernoulli' is fitted by"),
        ("laplace", MEASURED, Method(quadrature=3), "the family gaussian is exact; leave out --quadrature"),
        ("laplace", ANSWERS, Method(quadrature=-1), "-1 nodes of quadrature"),
        ("laplace", RATED, Method(), "maximum likelihood cannot fit the family cumulative; use --engine pymc"),
        ("laplace", STEPPED, Method(), "maximum likelihood cannot fit a monotonic effect"),
        (
            "auto",
            ANSWERS,
            Method(quadrature=3),
            "--reml and --quadrature are of maximum likelihood; add --engine laplace",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_refused(engine, spec, method, words) -> None:
    with pytest.raises(InputError, match=words):
        resolve_engine(engine, spec, method)


def test_every_engine_is_known() -> None:
    for engine in ENGINES:
        if engine != "nuts":
            assert resolve_engine(engine)[0] in ENGINES


def test_one_row_a_level_is_fitted_with_a_warning_and_refused_for_measurements() -> None:
    data = trials(FOLDER / "data" / "nested.csv").assign(row=lambda d: [f"r{i}" for i in range(len(d))])
    formula = "cbind(successes, failures) ~ x + (1 | batch) + (1 | row)"
    fit = ps.fit(formula, data, family="binomial", engine="laplace", progress=False)
    assert [check.name for check in fit.checks] == ["rows_a_level"] and fit.converged
    (warning,) = fit.warnings
    assert "row" in warning
    with pytest.raises(
        InputError, match="every level of row has one observation only, so that its effect is the resid"
    ):
        ps.fit("x ~ successes + (1 | row)", data, family="gaussian", engine="laplace", progress=False)


def test_more_effects_than_answers_are_refused_before_anything_is_fitted() -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.integers(0, 2, 30), "x": rng.normal(size=30), "g": [f"g{i // 2}" for i in range(30)]})
    with pytest.raises(InputError, match=r"15 levels x 3 terms = 45, and 30 trials; leave out slopes"):
        ps.fit("y ~ x + (1 + x + I(x^2) | g)", data, engine="laplace", progress=False)
