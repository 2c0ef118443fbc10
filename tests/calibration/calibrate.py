"""Simulation-based calibration: is the true value as likely to be of any rank among the posterior's draws?

Run as ``python tests/calibration/calibrate.py [MODEL ...]``, or ``make calibration``; it writes a file of ranks a model
beside itself, and goes on where it was interrupted. ``--workers N`` or ``--scheduler ADDRESS`` (``make calibration
WORKERS=N``) does several replications at once, which makes the same file. Parameters are drawn from the priors in use,
answers from the family; then the rank of the true value among thinned draws is uniform if, and for nearly every fault
only if, the posterior is right (Talts et al. 2018). The joint log-likelihood is a quantity too, since it sees faults
that no single parameter does (Modrák et al. 2023). `tests/psychostats/test_calibration.py` holds the committed ranks to
a band.

One design serves all replications of a model, so that it is compiled once. Another model is another entry of `MODELS`,
which also says which engine samples; those of the fast one (`nuts_`) may be larger and have more replications.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from common import HERE, add_executor, collect, deviations

from psychostats.checks import draw_priors
from psychostats.convergence import ESS_MIN
from psychostats.design import Design, code
from psychostats.draws import label
from psychostats.family import Family
from psychostats.intervals import Interval
from psychostats.options import choose_executor
from psychostats.predictor import Parameters, linear_predictor
from psychostats.priors import Prior, resolve_priors
from psychostats.sampling import Sample, Settings
from psychostats.simulate import draw_levels
from psychostats.spec import specify

DRAWS = 99  # so that a rank is one of 100
SEED = 1
LONGEST = 8000  # draws of each chain, where it takes so many
ENGINES = {"pymc": "psychostats.sampler", "nuts": "psychostats.nuts"}


@dataclass(frozen=True)
class Model:
    """A model to calibrate.

    Parameters
    ----------
    formula
        Its columns are those of `trials` and the response.
    family
        Words of `psychostats.spec.specify`.
    priors
        Overrides, the same in the simulation and in the fit.
    fault
        Further overrides in the simulation alone: a planted fault.
    answers
        Values that the response takes, for the coding to see; the answers themselves come from the family. A rating
        takes all of them in every replication: data are drawn again until it does, which depends on the data alone
        and so leaves ranks uniform.
    replications
        How many are made.
    people, pairs
        Participants, and pairs that each of them sees in both representations.
    engine
        Which sampler is calibrated: a key of `ENGINES`.
    """

    formula: str
    family: Mapping[str, Any] = field(default_factory=dict)
    priors: tuple[str, ...] = ()
    fault: tuple[str, ...] = ()
    answers: tuple[float, ...] = (0, 1)
    replications: int = 200
    people: int = 8
    pairs: int = 10
    engine: str = "pymc"


_UNCORRELATED = "correct ~ x + (1 + x || participant)"

MODELS = {
    "bernoulli": Model(_UNCORRELATED, replications=500),
    # Under its default prior the slope is too small for anyone to come near the upper asymptote, and l is not learned.
    "afc_lapse": Model(
        "correct ~ x + (1 | participant)",
        {"family": "afc", "lapse": "estimate"},
        ("b_x ~ normal(0, 5)",),
        replications=500,
    ),
    "slopes": Model("correct ~ representation + (1 + representation | participant) + (1 | pair)"),
    "ordinal": Model(
        "confidence ~ x + (1 | participant)",
        {"family": "cumulative"},
        ("b_Intercept ~ normal(0, 1.5)",),
        answers=(1, 2, 3, 4),
    ),
    # Priors that do not depend on the data; the placeholder's times are beyond any shift, so that none is cut.
    "shifted_lognormal": Model(
        "rt ~ x + (1 | participant)",
        {"family": "shifted_lognormal"},
        ("b_Intercept ~ normal(0, 1)", "ndt ~ gamma(9, 30)", "sigma ~ exponential(2)"),
        answers=(1e6,),
    ),
    # The fast engine. Priors of measurements are given, since the defaults depend on the data.
    "nuts_crossed": Model(
        "correct ~ representation * depth + (1 + representation | participant) + (1 | pair)",
        replications=1000,
        engine="nuts",
    ),
    "nuts_afc": Model(
        "correct ~ representation * depth + (1 + representation | participant) + (1 + representation | pair)",
        {"family": "afc", "guess": 0.5, "lapse": 0.02},
        replications=200,
        people=24,
        pairs=24,
        engine="nuts",
    ),
    "nuts_triple": Model(
        "correct ~ condition + (1 + condition | participant) + (1 | pair) + (1 | image)",
        {"link": "probit"},
        ("sd ~ gamma(2, 4)", "cor ~ lkj(1)", "b ~ student_t(5, 0, 1)"),
        replications=200,
        people=12,
        engine="nuts",
    ),
    "nuts_gaussian": Model(
        "score ~ x + (1 + x | participant) + (1 | pair)",
        {"family": "gaussian"},
        (
            "b_Intercept ~ normal(0, 1.5)",
            "b_x ~ cauchy(0, 0.5)",
            "sd ~ student_t(5, 0, 0.5)",
            "sigma ~ exponential(1)",
        ),
        answers=(0.0, 1.0),
        replications=200,
        engine="nuts",
    ),
    "nuts_lognormal": Model(
        "rt ~ representation + (representation || participant)",
        {"family": "lognormal"},
        ("b_Intercept ~ normal(0, 1)", "b ~ normal(0, 0.5)", "sd ~ normal(0, 0.5)", "sigma ~ gamma(3, 5)"),
        answers=(1.0, 2.0),
        replications=1000,
        engine="nuts",
    ),
    "planted": Model(_UNCORRELATED, fault=("b_Intercept ~ normal(0, 3)", "b_x ~ normal(0, 1)", "sd ~ exponential(1)")),
}


def trials(people: int = 8, pairs: int = 10) -> pd.DataFrame:
    """Return participants' trials: each pair in both representations, and a number x from -1 to 1.

    A condition of three levels and one of six images change from trial to trial; depth is the pair's.
    """
    each = 2 * pairs
    person, place = np.divmod(np.arange(people * each), each)
    return pd.DataFrame(
        {
            "participant": np.repeat([f"P{i + 1}" for i in range(people)], each),
            "pair": np.tile([f"pair{i + 1:02d}" for i in range(pairs)], 2 * people),
            "representation": pd.Categorical(
                np.tile(np.repeat(["local", "distributed"], pairs), people), categories=["local", "distributed"]
            ),
            "x": np.tile(np.linspace(-1.0, 1.0, each), people),
            "condition": np.array(["a", "b", "c"])[(person + place) % 3],
            "image": np.array([f"image{i + 1}" for i in range(6)])[(person + place // 3) % 6],
            "depth": place % pairs / (pairs - 1.0),
        }
    )


@dataclass(frozen=True)
class Ready:
    """A model with its design, its priors, and those that the simulation draws from."""

    data: pd.DataFrame
    design: Design
    family: Family
    given: tuple[str, ...]
    true_priors: tuple[Prior, ...]
    sample: Callable[..., Sample]

    @staticmethod
    def of(model: Model) -> Ready:
        """Code the trials for a model; its priors are resolved for each data set, since a shift ends at the fastest."""
        spec = specify(model.formula, priors=model.priors, **model.family)
        table = trials(model.people, model.pairs)
        data = table.assign(**{spec.formula.response.successes: np.resize(model.answers, len(table))})
        design = code(spec.formula, data, thresholds=spec.family.ordinal).design(data, spec.family.response)
        true_priors = resolve_priors(design, model.priors + model.fault, spec.family)
        sample = importlib.import_module(ENGINES[model.engine]).sample
        return Ready(data, design, spec.family, model.priors, true_priors, sample)


def replicate(ready: Ready, seed: tuple[int, ...]) -> dict[str, int]:
    """Simulate from the priors, fit, and return each quantity's rank, from 0 to `DRAWS`.

    Chains are drawn again, twice as long, until every effective sample size is what the package asks for; thinned to
    `DRAWS` they are then all but independent.

    Returns
    -------
    dict
        ``draws`` (of each chain), ``divergences``, then the ranks.
    """
    rng = np.random.default_rng(seed)
    design = ready.design
    drawn_once = draw_priors(rng, ready.true_priors, design.names, design.blocks, 1)
    truth = replace(draw_levels(rng, drawn_once, design.blocks), family=drawn_once.family)
    family, eta = ready.family.at(truth.family), linear_predictor(design, truth)
    answers = family.draw(rng, design.trials, eta)
    if family.ordinal and len(np.unique(answers)) < len(np.unique(design.successes)):
        return replicate(ready, (*seed, 0))
    design = replace(design, successes=answers[0])
    priors = resolve_priors(design, ready.given, ready.family)
    settings = Settings(draws=1000, tune=500, chains=2, seed=int(rng.integers(2**31)))
    while True:
        drawn = ready.sample(design, ready.family, priors, settings)
        draws = label(drawn, design, ready.data)
        if draws.terms(Interval())["ess_bulk"].min() >= ESS_MIN or settings.draws >= LONGEST:
            break
        settings = replace(settings, draws=2 * settings.draws)
    true = quantities(design, ready.family, truth)
    thinned = quantities(design, ready.family, draws.parameters(design, most=DRAWS))
    ranks = {name: int((thinned[name] < true[name]).sum()) for name in true}
    return {"draws": settings.draws, "divergences": int(drawn.stats["diverging"].sum()), **ranks}


def quantities(design: Design, family: Family, parameters: Parameters) -> dict[str, np.ndarray]:
    """Return what is ranked, each of shape ``(draws,)``: every b, sd and cor, the family's, some r, log-likelihood."""
    out = {f"b_{name}": parameters.b[:, j] for j, name in enumerate(design.names)}
    for block, covariance, r in zip(design.blocks, parameters.covariance, parameters.r, strict=True):
        sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        for j, term in enumerate(block.terms):
            out[f"sd_{block.group}__{term}"] = sd[:, j]
            for k, earlier in enumerate(block.terms[:j] if block.structure == "correlated" else ()):
                out[f"cor_{block.group}__{earlier}__{term}"] = covariance[:, j, k] / (sd[:, j] * sd[:, k])
            out[f"r_{block.group}[{block.levels[0]} {term}]"] = r[:, 0, j]
    for name, values in parameters.family.items():
        out |= {f"{name}[{k + 1}]": values[:, k] for k in range(values.shape[1])} if values.ndim > 1 else {name: values}
    eta = linear_predictor(design, parameters)
    density = family.at(parameters.family).log_density(design.successes, design.trials, eta)
    return out | {"log_likelihood": density.sum(axis=1)}


def read_ranks(name: str) -> pd.DataFrame:
    """Return the committed ranks of a model, a column a quantity and a row a replication."""
    table = pd.read_csv(HERE / f"ranks_{name}.csv", comment="#")
    return table.drop(columns=["replication", "draws", "divergences"])


def main() -> None:
    """Calibrate the models named, or all of them, and print how far each quantity strays."""
    parser = argparse.ArgumentParser(description="Simulation-based calibration.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"all by default: {', '.join(MODELS)}")
    add_executor(parser)
    asked = parser.parse_args()
    if set(asked.models) - set(MODELS):
        parser.error(f"unknown: {', '.join(sorted(set(asked.models) - set(MODELS)))}")
    executor = choose_executor(asked.workers, asked.scheduler, default=1)
    for name in asked.models or list(MODELS):
        ready = Ready.of(MODELS[name])
        collect(
            HERE / f"ranks_{name}.csv",
            f"seed {SEED}: python tests/calibration/calibrate.py {name}",
            [{"replication": k} for k in range(1, MODELS[name].replications + 1)],
            lambda replication, ready=ready, name=name: replicate(ready, (SEED, replication, *name.encode())),
            executor,
        )
        ranks = read_ranks(name)
        print(f"{name}, band of {0.001 / ranks.shape[1]:.1e}")
        print(deviations(ranks, DRAWS + 1, 0.001 / ranks.shape[1]).round(3).to_string())


if __name__ == "__main__":
    main()
