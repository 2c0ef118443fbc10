"""Maximum likelihood against R's numbers: lme4, glmmTMB, TMB and by hand (tests/golden/README.md).

Where R's packages are known to say something else, that is a test too: it fails if they come to agree.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deviations import Golden, compare, goldens, load, references

MODELS = {golden.name: golden for golden in goldens()}
# glmer's determinant has expected weights, so this one is no reference: see test_expected_weights_are_not_laplace.
EXPECTED_WEIGHTS = "fits:terms_probit"

# Ten times what was measured, or less; the table in tests/golden/README.md has each model's own.
EXACT = {"logLik": 1e-9, "b / SE": 1e-6, "SE": 1e-5, "SD": 1e-7, "cor": 1e-7, "modes": 1e-7, "mode SDs": 1e-7}
# Six digits: half a unit of the last one, of the number and of what it is divided by. Fits of exp1 have a likelihood so
# flat in the subjects' SD (0.03) that lme4's own is good for four digits.
SIX = {"b / SE": 1e-4, "SE": 5e-5, "SD": 1e-4, "cor": 5e-6, "modes": 5e-5, "mode SDs": 1e-4}

REFERENCES = (
    *("B_glmer:full", "B_glmer:additive", "C_cbpp:main"),
    *(f"quadrature:cbpp:{nodes}" for nodes in (1, 5, 11, 25)),
    *(f"C_sleepstudy:{m}:{by}" for m in ("correlated", "uncorrelated", "intercept_only") for by in ("ML", "REML")),
    *(f"C_pastes:{m}:{by}" for m in ("batch_sample", "nested_syntax", "sample_only") for by in ("ML", "REML")),
)


@functools.cache
def _referenced(folder: Path) -> dict[str, Golden]:
    return {golden.name: golden for golden in references(folder)}


def _require(golden: Golden, limits: dict[str, float]) -> None:
    found = compare(golden)
    assert {kind: found[kind] for kind in limits if found[kind] > limits[kind]} == {}


def _require_likelihood(golden: Golden, *, exactly: bool) -> None:
    own, numbers = golden.fit.likelihood, golden.numbers
    for key in ("logLik", "AIC", "BIC"):
        if key in numbers:
            # Half a unit of the last digit that was written, and the sum of two such.
            last = 10.0 ** (math.floor(math.log10(abs(numbers[key]))) + 1 - golden.digits)
            assert own[key] == pytest.approx(numbers[key], rel=0, abs=1e-8 if exactly else 0.51 * last), key
    for key in ("df", "nobs", "REML", "singular"):
        assert own[key] == numbers.get(key, own[key]), key


@pytest.mark.parametrize("name", [name for name in MODELS if name != EXPECTED_WEIGHTS])
def test_the_maximum_is_the_one_that_r_finds(name: str) -> None:
    _require(MODELS[name], EXACT)
    _require_likelihood(MODELS[name], exactly=True)


@pytest.mark.parametrize("name", REFERENCES)
def test_the_maximum_of_real_data_is_the_one_that_r_finds(name: str, reference: Path) -> None:
    golden = _referenced(reference)[name]
    _require(golden, EXACT if golden.digits > 6 else SIX)
    _require_likelihood(golden, exactly=golden.digits > 6)


def test_every_model_of_the_reference_folder_is_tested(reference: Path) -> None:
    assert sorted(_referenced(reference)) == sorted(REFERENCES)


def test_the_covariance_of_the_fixed_effects_is_that_of_r_beyond_its_diagonal() -> None:
    for name, golden in MODELS.items():
        vcov = load(name.split(":")[0]).get(name.split(":")[1], {}).get("vcov")
        if vcov and name != EXPECTED_WEIGHTS:
            order = [golden.fit.design.names.index(row.replace("(Intercept)", "Intercept")) for row in vcov["rows"]]
            V = golden.fit.estimates.maximum.covariance[np.ix_(order, order)]
            size = np.sqrt(np.outer(np.diag(V), np.diag(V)))
            np.testing.assert_allclose(V / size, np.array(vcov["values"]) / size, atol=2e-5, err_msg=name)


def test_the_uncertainty_of_the_sds_is_that_of_the_joint_hessian() -> None:
    # For one scalar group effect the SD's own standard error follows from the marginal likelihood by differences.
    golden = MODELS["fits:slopes3_intercept"]
    terms = golden.fit.terms().set_index("term")
    assert terms.loc["sd_participant__Intercept", "sd"] == pytest.approx(_sd_by_profile(golden), rel=1e-4)


def _sd_by_profile(golden: Golden) -> float:
    """Return the SE of the single SD as the curvature of its own profile, the fixed effects maximised out."""
    from psychostats.laplace import Laplace
    from psychostats.mixed import prepare
    from psychostats.optimum import minimise

    design, family, best = golden.fit.design, golden.fit.spec.family, golden.fit.estimates.maximum
    mixed = prepare(design)
    laplace = Laplace(mixed, family)

    def profile(sd: float) -> float:
        def of_beta(beta: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = laplace.gradient(np.concatenate([[sd], beta]))
            return value, gradient[1:]

        return minimise(of_beta, mixed.root @ best.b, 100.0 * np.eye(len(best.b))).value

    sd, step = float(best.factors[0][0, 0]), 0.01
    curvature = (profile(sd + step) - 2.0 * profile(sd) + profile(sd - step)) / step**2
    return 1.0 / math.sqrt(curvature)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("few", ["(Intercept + representationdistributed + depth + representationdistributed:depth | participant)"]),
        ("terms_block", ["sd_block__Intercept"]),
        ("slopes3", []),
        ("gaussian_reml", []),
    ],
)
def test_what_lies_at_the_boundary_is_named(name: str, terms: list[str]) -> None:
    fit = MODELS[f"fits:{name}"].fit
    assert fit.likelihood["singular_terms"] == terms
    assert fit.converged  # a boundary is a warning, the estimates stand
    assert len(fit.warnings) == len(terms)


def test_a_term_at_its_boundary_changes_nothing_but_the_count_of_parameters() -> None:
    with_block, without = MODELS["fits:terms_block"].fit, MODELS["fits:terms_noblock"].fit
    assert with_block.likelihood["logLik"] == pytest.approx(without.likelihood["logLik"], abs=1e-9)
    assert with_block.likelihood["df"] == without.likelihood["df"] + 1
    np.testing.assert_allclose(with_block.estimates.maximum.b, without.estimates.maximum.b, atol=1e-7)


# -- What R's packages say otherwise ----------------------------------------------------------------------------------


def test_expected_weights_are_not_laplace() -> None:
    """lme4's determinant has expected (Fisher) weights; the probit is not its own canonical link, so it differs."""
    golden = MODELS[EXPECTED_WEIGHTS]
    fit, numbers = golden.fit, golden.numbers
    b = dict(zip(fit.design.names, fit.estimates.maximum.b, strict=True))
    se = dict(zip(fit.design.names, np.sqrt(np.diag(fit.estimates.maximum.covariance)), strict=False))
    assert fit.likelihood["logLik"] - numbers["logLik"] == pytest.approx(0.254141, abs=1e-5)
    assert max(abs(b[name] - numbers["fixef"][name]) for name in b) == pytest.approx(0.0029653, abs=1e-5)
    assert max(abs(se[name] - numbers["se"][name]) for name in b) == pytest.approx(0.0010173, abs=1e-5)
    other = load("fits")["terms_probit"]["glmmTMB"]  # which takes the observed ones
    assert fit.likelihood["logLik"] == pytest.approx(other["logLik"], abs=1e-7)
    assert max(abs(b[name.replace("(", "").replace(")", "")] - x) for name, x in other["fixef"].items()) < 1e-6


@pytest.mark.parametrize(
    ("name", "higher", "b_differs", "se_differs"),
    [("afc_logit", 0.59326, 0.063529, 0.040582), ("afc_lapse", 1.28814, 0.238226, 0.139344)],
)
def test_glmer_with_a_guess_rate_in_its_link_is_not_laplace(
    name: str, higher: float, b_differs: float, se_differs: float
) -> None:
    fit, other = MODELS[f"laplace:{name}"].fit, load("laplace")[f"glmer_mafc_{name}"]
    own = fit.terms().set_index("term")
    terms = {f"b_{term.replace('(Intercept)', 'Intercept')}": term for term in other["fixef"]}
    assert other["logLik"] - fit.likelihood["logLik"] == pytest.approx(higher, abs=1e-5)
    b = max(abs(own.loc[term, "estimate"] - other["fixef"][theirs]) for term, theirs in terms.items())
    se = max(abs(own.loc[term, "sd"] - other["se"][theirs]) for term, theirs in terms.items())
    assert (b, se) == pytest.approx((b_differs, se_differs), abs=1e-5)


def _defaults() -> list[tuple[str, Any]]:
    return [
        (name, e["lme4_default"]) for name, e in load("fits").items() if "lme4_default" in e and "probit" not in name
    ]


@pytest.mark.parametrize(("name", "default"), _defaults())
def test_the_defaults_of_lme4_stop_short_of_the_maximum(name: str, default: dict[str, Any]) -> None:
    fit = MODELS[f"fits:{name}"].fit
    gain = fit.likelihood["logLik"] - default["logLik"]
    own = fit.terms().set_index("term")
    ratios = [x / own.loc[f"b_{term.replace('(Intercept)', 'Intercept')}", "sd"] for term, x in default["se"].items()]
    if name == "few":  # a middle diagonal of the factor was caught at its bound
        assert gain == pytest.approx(0.226517, abs=1e-5)
        assert sorted(ratios)[:2] == pytest.approx([1 - 0.0937, 1 - 0.0537], abs=1e-3)
    else:
        assert 5e-6 < gain < 4e-4
        assert 5e-4 < max(abs(ratio - 1.0) for ratio in ratios) < 1.05e-2


def test_gaussian_standard_errors_are_those_of_lme4_not_of_glmmtmb() -> None:
    for name in ("gaussian_ml", "gaussian_reml", "gaussian_sum_ml", "gaussian_sum_reml"):
        own = MODELS[f"fits:{name}"].fit.terms().set_index("term")
        theirs = load("fits")[name]["glmmTMB"]["se"]
        off = [abs(own.loc[f"b_{term.replace('(Intercept)', 'Intercept')}", "sd"] - x) for term, x in theirs.items()]
        assert 4e-4 < max(off) < 9e-4


def test_the_restricted_likelihood_depends_on_the_coding_and_the_likelihood_does_not() -> None:
    fits = {
        name: MODELS[f"fits:gaussian_{name}"].fit.likelihood["logLik"] for name in ("ml", "sum_ml", "reml", "sum_reml")
    }
    assert fits["ml"] == pytest.approx(fits["sum_ml"], abs=1e-9)
    # By log |T|, T what turns one coding's columns into the other's: of 3 levels, twice (main effect, interaction).
    assert fits["reml"] - fits["sum_reml"] == pytest.approx(2.0 * math.log(3.0), abs=1e-8)
