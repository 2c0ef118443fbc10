"""Leave-one-out: exact where that is known, against brute force and real refits elsewhere, and the table made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deviations import maximum
from scipy import special, stats

from psychostats.answers import Answers
from psychostats.compare import PREDICTION_COLUMNS, compare, stacking_weights
from psychostats.design import code
from psychostats.draws import label
from psychostats.errors import InputError
from psychostats.families import resolve_family
from psychostats.family import Family
from psychostats.fit import Fit
from psychostats.integral import Outcomes, log_integral
from psychostats.loo import INTEGRATED_DRAWS, loo
from psychostats.predictor import fixed_predictor, take_rows
from psychostats.sampling import Sample, Settings
from psychostats.spec import specify

CHAINS, DRAWS = 2, 500
BERNOULLI = resolve_family("bernoulli")
ONE = "correct ~ x + (1 + x | participant) + (1 | item)"


def drawn(formula: str, data: pd.DataFrame, b: np.ndarray, *, seed: int = 1, spread: float = 0.3, **family: Any) -> Fit:
    """Return a fit of draws that are given, shape ``(chains, draws, columns)``; those of the groups are made up.

    What is left out is a function of draws and data alone, so these need not come from a sampler.
    """
    rng = np.random.default_rng(seed)
    spec = specify(formula, **family)
    coding = code(spec.formula, data)
    design = coding.design(data)
    shape = b.shape[:2]
    sd, cor, r = [], [], []
    for block in design.blocks:
        q = len(block.terms)
        sd.append(np.exp(rng.normal(-0.5, 0.2, (*shape, q))))
        cor.append(rng.uniform(-0.5, 0.5, (*shape, q * (q - 1) // 2 if block.structure == "correlated" else 0)))
        middle = np.random.default_rng(len(block.levels) + q).normal(0, 0.6, (len(block.levels), q))
        r.append(middle + rng.normal(0, spread, (*shape, len(block.levels), q)))
    stats = {name: np.zeros(shape) for name in ("diverging", "maxdepth_reached")}
    rows = data[list(spec.formula.variables)].reset_index(drop=True)
    draws = label(Sample(b, tuple(sd), tuple(cor), tuple(r), stats), design, rows)
    return Fit(spec, rows, coding, design, (), draws, Settings(b.shape[1], 1, b.shape[0]), (), {}, {})


@pytest.fixture(scope="module")
def trials_of() -> pd.DataFrame:
    """Give 240 trials of six people and eight items, one of which one person alone has seen."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "participant": np.repeat([f"p{i}" for i in range(6)], 40),
            "item": np.tile([f"i{i}" for i in range(8)], 30),
            "x": np.tile(np.repeat([0.0, 0.5, 1.0, 1.5, 2.0], 8), 6),
        }
    )
    frame.loc[frame.index[:3], "item"] = "rare"
    return frame.assign(correct=(rng.random(240) < special.expit(0.3 + 0.5 * frame["x"])).astype(int))


def coefficients(columns: int, seed: int = 2, mean: float = 0.4, sd: float = 0.15) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, (CHAINS, DRAWS, columns))


# -- By trial ----------------------------------------------------------------------------------------------------------


def test_leaving_a_trial_out_is_exact_where_that_is_known() -> None:
    # One parameter: the posterior on a grid gives independent draws, and every leave-one-out predictive too.
    correct = np.repeat([1, 0], [27, 13])
    grid = np.linspace(-8, 8, 4001)
    right, wrong = special.log_expit(grid), special.log_expit(-grid)
    prior = stats.norm.logpdf(grid, 0, 1.5)

    def predicts(outcome: np.ndarray, rights: int, wrongs: int) -> float:
        law = prior + rights * right + wrongs * wrong
        return float(special.logsumexp(law + outcome) - special.logsumexp(law))

    exact = 27 * predicts(right, 26, 13) + 13 * predicts(wrong, 27, 12)
    weight = np.exp(prior + 27 * right + 13 * wrong)
    at = np.random.default_rng(1).random((4, 1000))
    b = np.interp(at, np.cumsum(weight) / weight.sum(), grid)[:, :, np.newaxis]
    found = loo(drawn("correct ~ 1", pd.DataFrame({"correct": correct}), b))
    assert found.elpd == pytest.approx(exact, abs=0.02)
    assert found.p_loo == pytest.approx(27 * predicts(right, 27, 13) + 13 * predicts(wrong, 27, 13) - exact, abs=0.05)
    assert found.se == pytest.approx(np.sqrt(40 * found.elpd_i.var(ddof=1)))
    assert (found.k < 0.5).all() and not found.bad.any()
    assert found.rows.tolist() == list(range(40)) and found.threshold == 0.7


def test_a_count_is_as_many_trials(trials_of: pd.DataFrame) -> None:
    counts = trials_of.groupby(["x"], as_index=False)["correct"].agg(right="sum", total="count")
    counts["wrong"] = counts["total"] - counts["right"]
    b = coefficients(2)
    one = loo(drawn("correct ~ x", trials_of, b))
    many = loo(drawn("cbind(right, wrong) ~ x", counts, b, family="binomial"))
    assert len(one.elpd_i) == len(many.elpd_i) == 240
    order = trials_of.assign(wrong=1 - trials_of["correct"]).sort_values(["x", "wrong"], kind="stable").index
    for name in ("elpd_i", "p_i", "k"):
        np.testing.assert_allclose(getattr(one, name)[order], getattr(many, name), rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("unit", ["trial", "participant", "item"])
def test_blocks_of_any_size_give_the_same_numbers(unit: str, trials_of: pd.DataFrame) -> None:
    fit = drawn(ONE, trials_of, coefficients(2), family="afc")
    whole, pieces = loo(fit, unit), loo(fit, unit, at_once=5_000)
    for name in ("elpd_i", "p_i", "k"):
        assert np.isfinite(getattr(whole, name)).all()
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-9, err_msg=name)


# -- By participant ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family", [BERNOULLI, Answers("afc", guess=0.5, lapse=0.02), Answers("binomial", link="probit")]
)
@pytest.mark.parametrize(("effects", "near"), [(1, 2e-3), (2, 1e-2), (3, 0.1)])
def test_the_integral_is_that_of_many_more_nodes_and_of_simulation(family: Family, effects: int, near: float) -> None:
    rng = np.random.default_rng(effects)
    draws, answers, simulated = 4, 30, 100_000
    Z = np.column_stack([np.ones(answers), rng.integers(0, 2, answers), rng.normal(size=answers)])[:, :effects]
    known = rng.normal(0.5, 0.7, answers) + rng.normal(0, 0.1, (draws, answers))
    sd = np.exp(rng.normal(0, 0.15, (draws, effects)))
    covariance = sd[:, :, None] * (0.7 * np.eye(effects) + 0.3) * sd[:, None, :]
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    right = rng.random(answers) < family.mean(known[0] + Z @ root[0] @ rng.normal(size=effects))
    given = Outcomes(np.arange(answers), right.astype(float), np.ones(answers))
    found = log_integral(family, given, known, Z, root)
    np.testing.assert_allclose(found, log_integral(family, given, known, Z, root, nodes=20), atol=near)
    for i in range(draws):
        eta = known[i] + rng.normal(size=(simulated, effects)) @ root[i] @ Z.T
        log_density = np.where(right, np.log(family.mean(eta)), np.log(family.miss(eta))).sum(axis=1)
        density = np.exp(log_density - log_density.max())
        error = density.std() / density.mean() / np.sqrt(simulated)
        assert abs(found[i] - np.log(density.mean()) - log_density.max()) < 5 * error + near


def test_a_participants_density_is_the_integral_over_effects_with_the_drawn_covariance(trials_of: pd.DataFrame) -> None:
    fit = drawn(ONE, trials_of, coefficients(2), family="afc")
    found, p = loo(fit, "participant"), fit.parameters()
    assert found.draws == CHAINS * DRAWS  # all of them, so that a mean over draws is the same here
    person, item = (next(k for k in fit.design.blocks if k.group == g) for g in ("participant", "item"))
    own, r = (p.covariance[fit.design.blocks.index(person)], p.r[fit.design.blocks.index(item)])
    node, weight = np.polynomial.hermite_e.hermegauss(16)
    grid = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
    share = np.outer(weight, weight).ravel() / (2 * np.pi)
    for who in (2, 5):  # neither has seen the item that nobody else has
        rows = np.flatnonzero(trials_of["participant"] == f"p{who}")
        known = fixed_predictor(fit.design.X[rows], fit.design.offset[rows], p.b) + r[:, item.index[rows], 0]
        density = np.zeros(len(known))
        for z, w in zip(grid, share, strict=True):
            eta = known + (np.linalg.cholesky(own) @ z) @ person.Z[rows].T
            right = 0.5 + 0.5 * special.expit(eta)
            density += w * np.prod(np.where(fit.design.successes[rows] == 1, right, 1 - right), axis=1)
        # What it is given all, itself included: how well it is predicted without it, and the effective parameters.
        assert found.elpd_i[who] + found.p_i[who] == pytest.approx(np.log(density.mean()), abs=5e-3)


def test_without_effects_of_its_own_a_unit_is_its_trials_together(trials_of: pd.DataFrame) -> None:
    fit = drawn("correct ~ x", trials_of, coefficients(2))
    found = loo(fit, "participant", labels=trials_of["participant"])
    eta = fixed_predictor(fit.design.X, fit.design.offset, fit.parameters().b)
    sign = 2.0 * fit.design.successes - 1.0
    log_density = special.log_expit(sign * eta).reshape(-1, 6, 40).sum(axis=2)
    raw = -special.logsumexp(-log_density, axis=0) + np.log(len(eta))  # importance sampling without smoothing
    np.testing.assert_allclose(found.elpd_i, raw, atol=0.1)
    assert found.labels == tuple(f"p{i}" for i in range(6)) and found.draws == INTEGRATED_DRAWS and not found.laplace


def test_an_item_that_one_person_alone_saw_is_left_out_with_that_person(trials_of: pd.DataFrame) -> None:
    known, unknown = (drawn(ONE, trials_of, coefficients(2), seed=1) for _ in range(2))
    r = unknown.draws_table.posterior["r_item"]
    r.loc[{"item_level": "rare"}] = r.sel(item_level="rare") + 3.0  # nobody else's trials say anything of it
    np.testing.assert_allclose(loo(known, "participant").elpd_i, loo(unknown, "participant").elpd_i, rtol=1e-12)
    r.loc[{"item_level": "i1"}] = r.sel(item_level="i1") + 3.0
    assert loo(known, "participant").elpd != pytest.approx(loo(unknown, "participant").elpd, abs=1)


def test_leaving_a_participant_out_is_fitting_without_that_participant(
    quick: Callable[..., Fit], trials: Callable[[str], pd.DataFrame]
) -> None:
    data = trials("counts")
    fit = quick(draws=400, tune=300)
    found = loo(fit, "observer")
    for person in ("o03", "o07"):
        again = quick(trials=data[data["observer"] != person], draws=400, tune=300)
        p, piece = again.parameters(), take_rows(fit.design, np.flatnonzero(data["observer"] == person))
        rows = np.repeat(np.arange(len(piece.X)), 2)
        right = np.tile([True, False], len(piece.X))
        count = np.stack([piece.successes, piece.trials - piece.successes], axis=1).ravel()
        known = fixed_predictor(piece.X, piece.offset, p.b)[:, rows]
        answers = Outcomes(rows, right.astype(float), count)
        density = log_integral(
            fit.spec.family, answers, known, piece.blocks[0].Z[rows], np.sqrt(p.covariance[0]), nodes=40
        )
        exact = special.logsumexp(density) - np.log(len(density))
        place = found.labels.index(person)
        # The draws of the refit are about 200 independent ones.
        error = np.exp(density - density.max()).std() / np.exp(density - density.max()).mean() / np.sqrt(200)
        assert not found.bad[place]
        assert found.elpd_i[place] == pytest.approx(exact, abs=5 * error + 0.05)


# -- The table ---------------------------------------------------------------------------------------------------------


def test_stacking_finds_the_mixture_that_predicts_best() -> None:
    # Model a gives 0.8 to 70 units and 0.2 to 30, model b the reverse: 70 / (0.2 + 0.6 w) = 30 / (0.8 - 0.6 w).
    one = np.log(np.repeat([0.8, 0.2], [70, 30]))
    other = np.log(np.repeat([0.2, 0.8], [70, 30]))
    np.testing.assert_allclose(stacking_weights(np.stack([one, other], axis=1)), [5 / 6, 1 / 6], atol=1e-5)
    useless = np.full(100, -50.0)
    np.testing.assert_allclose(stacking_weights(np.stack([one, useless, other], axis=1)), [5 / 6, 0, 1 / 6], atol=1e-5)
    np.testing.assert_allclose(stacking_weights(np.stack([one, one - 1], axis=1)), [1, 0], atol=1e-6)


@pytest.mark.parametrize("unit", ["trial", "participant"])
def test_the_table_is_of_the_pointwise_values_in_any_order_of_rows(unit: str, trials_of: pd.DataFrame) -> None:
    small = "correct ~ x"
    large = drawn(ONE, trials_of, coefficients(2), family="afc")
    plain = drawn(small, trials_of, coefficients(2, seed=5))
    table = compare({"plain": plain, "large": large}, unit=unit)
    assert table.columns.tolist() == list(PREDICTION_COLUMNS) and set(table["unit"]) == {unit}
    one, two = (
        loo(large, unit),
        loo(plain, unit, labels=None if unit == "trial" else trials_of["participant"]),
    )
    best = "large" if one.elpd > two.elpd else "plain"
    worse = table.iloc[1]
    difference = one.elpd_i - two.elpd_i
    assert table["model"].iloc[0] == best and table["elpd_diff"].iloc[0] == table["se_diff"].iloc[0] == 0
    assert worse["elpd_diff"] == pytest.approx(-abs(one.elpd - two.elpd))
    assert worse["se_diff"] == pytest.approx(np.sqrt(len(difference) * difference.var(ddof=1)))
    assert table["weight_stacking"].sum() == pytest.approx(1)
    shuffled = drawn(small, trials_of.sample(frac=1, random_state=4), coefficients(2, seed=5))
    again = compare({"plain": shuffled, "large": large}, unit=unit)
    pd.testing.assert_frame_equal(again, table, rtol=1e-7)
    assert again.attrs["notes"] == table.attrs["notes"]


def test_the_notes_say_what_the_table_answers_and_when_it_does_not(trials_of: pd.DataFrame) -> None:
    one = drawn("correct ~ x + (1 | participant)", trials_of, coefficients(2))
    near = drawn("correct ~ x + (1 | participant)", trials_of, coefficients(2, seed=9))
    far = drawn("correct ~ 1 + (1 | participant)", trials_of, coefficients(1, mean=-3.0))
    question, verdict, ks = compare({"one": one, "near": near}).attrs["notes"]
    assert "another trial from these participants" in question
    assert "predict about equally well" in verdict and "the data do not tell them apart" in verdict
    assert ks == "No Pareto's k is above 0.67: elpd can be trusted."
    question, verdict, *_ = compare({"one": one, "far": far}, unit="participant").attrs["notes"]
    assert "another participant," in question and "with the participant's own effects integrated out." in question
    assert verdict.startswith("one predicts better than far: by ")
    wild = drawn("correct ~ x + (1 | participant)", trials_of, coefficients(2, sd=4.0))
    table = compare({"one": one, "wild": wild}).set_index("model")
    assert table.loc["wild", "bad_k"] > 0 and table.loc["one", "bad_k"] == 0
    assert f"wild: Pareto's k is above 0.67 for {table.loc['wild', 'bad_k']:,} of 240 trials" in table.attrs["notes"][2]
    assert "Fit again without them" in table.attrs["notes"][2]


# -- What does not compare ---------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_refused_in_a_sentence(trials_of: pd.DataFrame) -> None:
    b = coefficients(2)
    one = drawn(ONE, trials_of, b)
    plain = drawn("correct ~ x", trials_of, b)
    with pytest.raises(InputError, match="needs two fits at least"):
        compare({"one": one})
    with pytest.raises(InputError, match=r"^the unit 'particpant' is no group .*'participant'.*allowed are trial, "):
        compare({"one": one, "plain": plain}, unit="particpant")
    with pytest.raises(InputError, match=r"allowed are trial\.$"):
        compare({"one": plain, "plain": plain}, unit="participant")
    with pytest.raises(InputError, match="fitted to 240 and 239 rows; a comparison is of the same trials"):
        compare({"one": one, "plain": drawn("correct ~ x", trials_of.iloc[:-1], b)})
    with pytest.raises(InputError, match="fitted to other trials"):
        compare({"one": one, "plain": drawn("correct ~ x", trials_of.assign(x=2 - trials_of["x"]), b)})
    best = maximum("correct ~ x", trials_of)
    with pytest.raises(InputError, match="LOO of the one and AIC of the other are on different scales"):
        compare({"one": one, "best": best})
    with pytest.raises(InputError, match="the unit participant is for fits that hold draws"):
        compare({"one": best, "best": maximum("correct ~ 1", trials_of)}, unit="participant")
    with pytest.raises(InputError, match="all trials are of one participant"):
        loo(plain, "participant", labels=["a"] * 240)
    other = drawn("correct ~ 1 + (1 | item)", trials_of.sample(frac=1, random_state=1), coefficients(1))
    with pytest.raises(InputError, match=r"the columns they share \(correct\) do not tell which is which"):
        compare({"one": drawn("correct ~ x + (1 | participant)", trials_of, b), "other": other})


# -- The command -------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_table_and_its_notes(quick: Callable[..., Fit], tmp_path, run) -> None:
    quick(out=tmp_path / "wide")
    quick(out=tmp_path / "narrow", priors=["b ~ normal(0, 0.2)"])
    answer = run("compare", tmp_path / "wide", tmp_path / "narrow", "--unit", "observer", "--json")
    assert answer.code == 3 and "NOT CONVERGED: wide: " in answer.err  # 80 draws are too few
    assert list(answer.data["rows"][0]) == list(PREDICTION_COLUMNS) and len(answer.data["notes"]) >= 3
    text = run("compare", tmp_path / "wide", tmp_path / "narrow").out
    assert "weight_stacking" in text and "another trial from these observers" in text
    unknown = run("compare", tmp_path / "wide", tmp_path / "narrow", "--unit", "pair")
    assert unknown.code == 2 and "allowed are trial, observer." in unknown.err
