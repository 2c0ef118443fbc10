"""R-hat and effective sample sizes: ArviZ's to rounding, whatever the draws; and true ones where they are known."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import arviz as az
import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal, stats

from psychostats.mixing import diagnose, relative_efficiency

Array = npt.NDArray[np.float64]

# ArviZ 0's quantile of equal numbers, or at a place that is a draw's, may lie a rounding error below them; no draw of
# theirs then counts as in the tail. Its variance of large numbers loses digits.
ROUNDS = "InferenceData" in vars(az)


def autoregressive(noise: Array, rho: float) -> Array:
    """Return stationary chains whose neighbours correlate by rho."""
    start = noise[:, :1] / np.sqrt(1.0 - rho**2)
    return np.concatenate([start, signal.lfilter([1.0], [1.0, -rho], noise[:, 1:], zi=rho * start)[0]], axis=1)


def made(chains: int, draws: int, seed: int) -> dict[str, Array]:
    """Return draws of many kinds, shape ``(chains, draws)`` each."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(chains, draws))
    nan, infinite, endless = noise.copy(), noise.copy(), noise.copy()
    nan[0, 0], infinite[0, 1], endless[-1, :2] = np.nan, np.inf, (-np.inf, np.inf)
    return {
        "independent": noise,
        "slow": autoregressive(noise, 0.95),
        "antithetic": autoregressive(noise, -0.8),
        "alternating": np.tile((-1.0) ** np.arange(draws), (chains, 1)),
        "trend": noise * 0.1 + np.linspace(0.0, 3.0, draws),
        "shifted": noise + np.arange(chains)[:, np.newaxis],
        "wider": noise * (1.0 + np.arange(chains))[:, np.newaxis],
        "heavy": rng.standard_cauchy((chains, draws)),
        "far": 1e6 + noise,
        "small": 1e-9 * noise,
        "constant": np.full((chains, draws), 3.3),
        "stuck": np.repeat(np.arange(chains) / 1.0, draws).reshape(chains, draws),
        "nan": nan,
        "infinite": infinite,
        "endless": endless,
        "tied": np.round(2.0 * noise) / 2.0,
        "binary": (noise > 0.8).astype(float),
    }


def of_arviz(x: Array) -> tuple[float, float, float, float]:
    """Return ArviZ's R-hat, bulk ESS, tail ESS and relative ESS of the mean of one quantity."""
    logging.getLogger("arviz").setLevel(logging.ERROR)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if ROUNDS:
            library: Any = az
            where: dict[str, Any] = {}
        else:
            from arviz_stats.base import array_stats as library

            where = {"chain_axis": 0, "draw_axis": 1}
        return (
            float(library.rhat(x, **where)) if len(x) > 1 else np.nan,
            float(library.ess(x, method="bulk", **where)),
            float(library.ess(x, method="tail", prob=(0.05, 0.95), **where)),
            float(library.ess(x, method="mean", relative=True, **where)),
        )


@pytest.mark.parametrize("chains", [1, 2, 4, 7])
@pytest.mark.parametrize("draws", [4, 5, 6, 7, 9, 10, 22, 99, 250, 1000])
def test_figures_are_those_of_arviz(chains: int, draws: int) -> None:
    quantities = made(chains, draws, seed=chains * draws)
    values = np.stack(list(quantities.values()), axis=-1)
    ours = np.array([*diagnose(values), relative_efficiency(values)])
    for name, found in zip(quantities, ours.T, strict=True):
        expected = np.array(of_arviz(quantities[name]))
        if name == "stuck" and chains > 1:
            assert found[0] > 1e4  # divided by what rounding leaves of no variance
            expected[0] = found[0]
        if np.ptp(np.delete(quantities[name], draws // 2, axis=1) if draws % 2 else quantities[name]) == 0:
            assert found[3] == 1.0  # ArviZ has the number of draws there, though a share is asked for
            expected[3] = 1.0
        if ROUNDS and name in ("tied", "binary", "endless", "stuck"):
            expected[2] = found[2]
        if ROUNDS and name == "far":
            expected[3] = found[3]
        np.testing.assert_allclose(found, expected, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("draws", [21, 101, 1001])
@pytest.mark.skipif(ROUNDS, reason="ArviZ 0 rounds a quantile that is a draw to below it")
def test_a_quantile_that_is_a_draw_counts_it(draws: int) -> None:
    x = np.random.default_rng(draws).normal(size=(1, draws))
    assert diagnose(x[..., np.newaxis])[2][0] == pytest.approx(of_arviz(x)[2], rel=1e-10)


def test_a_quantity_is_diagnosed_alike_beside_thousands() -> None:
    values = np.random.default_rng(5).normal(size=(4, 250, 2300)).cumsum(axis=1)
    together = diagnose(values)
    for place in (0, 1047, 1048, 2299):  # both sides of where one block ends, too
        for whole, alone in zip(together, diagnose(values[:, :, place : place + 1]), strict=True):
            assert whole[place] == alone[0]
    assert relative_efficiency(values)[2299] == relative_efficiency(values[:, :, 2299:])[0]


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_ess_of_an_autoregression_is_known(rho: float) -> None:
    values = np.stack(
        [autoregressive(np.random.default_rng(seed).normal(size=(4, 5000)), rho) for seed in range(40)], axis=-1
    )
    rhat, bulk, _ = diagnose(values)
    known = (1.0 - rho) / (1.0 + rho)
    assert relative_efficiency(values).mean() == pytest.approx(known, rel=0.05)
    # Ranks of normal draws correlate a little less than the draws, so theirs is the same within a few percent.
    assert bulk.mean() / 20_000 == pytest.approx(known, rel=0.08)
    assert (rhat < 1.02).all()


def test_ess_is_at_most_s_log_s() -> None:
    values = autoregressive(np.random.default_rng(1).normal(size=(4, 1000)), -0.99)[..., np.newaxis]
    assert diagnose(values)[1][0] == pytest.approx(4000 * np.log10(4000))


def test_diagnose_knows_chains_that_agree_from_chains_that_do_not() -> None:
    rng = np.random.default_rng(2)
    good = rng.normal(size=(4, 500))
    shifted = good + np.array([[0.0], [0.0], [0.0], [3.0]])
    wider = good * np.array([[1.0], [1.0], [1.0], [8.0]])
    slow = stats.norm.ppf(np.clip(np.cumsum(good, axis=1) / 60 + 0.5, 0.001, 0.999))
    rhat, bulk, tail = diagnose(np.stack([good, shifted, wider, slow, np.ones((4, 500))], axis=-1))
    assert rhat[0] < 1.01 and bulk[0] > 1500 and tail[0] > 1200
    assert rhat[1] > 1.2 and bulk[1] < 20
    assert rhat[2] > 1.05  # seen by folding: the means agree
    assert bulk[3] < 100
    # Draws that do not vary have neither; ArviZ's ESS of them is their number, which the NaN of R-hat overrules.
    assert np.isnan(rhat[4])


def test_too_few_chains_or_draws_leave_nothing_to_diagnose(capfd: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(3).normal(size=(1, 50, 2))
    rhat, bulk, tail = diagnose(values)
    assert np.isnan(rhat).all() and (bulk > 10).all() and (tail > 10).all()
    for figures in diagnose(values[:, :3]):
        assert np.isnan(figures).all() and figures.shape == (2,)
    assert capfd.readouterr() == ("", "")
