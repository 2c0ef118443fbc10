"""Names, shapes and the file of draws, on samples made by hand; ArviZ on a real one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pytest
from studies import known_fit

from psychostats import netcdf
from psychostats.design import Block, Design
from psychostats.draws import TERM_COLUMNS, Draws, label
from psychostats.errors import FitError
from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.sampling import Sample

CHAINS, DRAWS = 3, 40


def reread(draws: Draws, path: Path) -> Draws:
    """Write draws and read them back."""
    netcdf.write(draws.groups, path)
    return Draws.of(netcdf.read(path), path)


def made_up(
    groups: tuple[tuple[str, tuple[str, ...], bool, tuple[str, ...]], ...],
    names: tuple[str, ...] = ("Intercept", "x"),
    seed: int = 1,
) -> tuple[Sample, Design]:
    """Return random draws, positive SDs and possible correlations, with a design of five rows."""
    rng = np.random.default_rng(seed)
    blocks = tuple(
        Block(group, terms, correlated, levels, rng.normal(size=(5, len(terms))), np.arange(5) % len(levels))
        for group, terms, correlated, levels in groups
    )
    design = Design(names, rng.normal(size=(5, len(names))), np.zeros(5), blocks, np.ones(5), np.ones(5))

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=(CHAINS, DRAWS, *shape))

    pairs = [len(k.terms) * (len(k.terms) - 1) // 2 if k.structure == "correlated" else 0 for k in blocks]
    sample = Sample(
        b=draw(len(names)),
        sd=tuple(np.abs(draw(len(k.terms))) for k in blocks),
        cor=tuple(0.4 * np.tanh(draw(n)) for n in pairs),
        r=tuple(draw(len(k.levels), len(k.terms)) for k in blocks),
        stats={"diverging": draw() > 1, "n_steps": rng.integers(1, 9, (CHAINS, DRAWS)), "lp": draw()},
    )
    return sample, design


DATA = pd.DataFrame(
    {
        "y": [1, 0, 1, 1, 0],
        "x": [0.1, 0.2, -0.3, 1e-17, 5.0],
        "yes": [True, False, True, True, False],
        "who": ["ü", "a b", "a:b", "", "1"],
        "kind": pd.Categorical(["u", "v", "u", "v", "u"], categories=["v", "u"]),
    }
)

CORRELATED = ("person", ("Intercept", "x", "w"), True, ("p2", "p1"))


def test_names_are_those_of_brms() -> None:
    draws = label(*made_up((CORRELATED, ("batch:cask", ("Intercept",), True, ("A:a", "A:b")))), DATA)
    assert draws.terms(Interval(), random=True)["term"].tolist() == [
        "b_Intercept",
        "b_x",
        "sd_person__Intercept",
        "sd_person__x",
        "sd_person__w",
        "sd_batch:cask__Intercept",
        "cor_person__Intercept__x",
        "cor_person__Intercept__w",
        "cor_person__x__w",
        "r_person[p2,Intercept]",
        "r_person[p2,x]",
        "r_person[p2,w]",
        "r_person[p1,Intercept]",
        "r_person[p1,x]",
        "r_person[p1,w]",
        "r_batch:cask[A:a,Intercept]",
        "r_batch:cask[A:b,Intercept]",
    ]


def test_terms_are_summaries_of_their_own_draws() -> None:
    sample, design = made_up((CORRELATED,))
    draws = label(sample, design, DATA)
    table = draws.terms(Interval("eti", 0.8), random=True)
    assert tuple(table.columns) == TERM_COLUMNS
    of = {
        "b_x": sample.b[..., 1],
        "sd_person__w": sample.sd[0][..., 2],
        "cor_person__Intercept__x": sample.cor[0][..., 0],
        "cor_person__x__w": sample.cor[0][..., 2],
        "r_person[p1,x]": sample.r[0][..., 1, 1],
    }
    kinds = {"b_x": "b", "sd_person__w": "sd", "r_person[p1,x]": "r"}
    for name, values in of.items():
        row = table.set_index("term").loc[name]
        assert row["estimate"] == pytest.approx(values.mean())
        assert row["sd"] == pytest.approx(values.std(ddof=1))
        assert [row["conf_low"], row["conf_high"]] == pytest.approx(np.quantile(values, [0.1, 0.9]).tolist())
        assert (row["conf_level"], row["interval"]) == (0.8, "eti")
        assert row["class"] == kinds.get(name, "cor")
        assert row["group"] == ("" if name == "b_x" else "person")


def test_terms_without_random_leave_levels_out() -> None:
    table = label(*made_up((CORRELATED,)), DATA).terms(Interval())
    assert set(table["class"]) == {"b", "sd", "cor"}


def test_flat_frame_counts_chains_and_iterations_from_one() -> None:
    sample, design = made_up((CORRELATED,))
    flat = label(sample, design, DATA).flat(random=True)
    assert flat.columns[:4].tolist() == [".chain", ".iteration", ".draw", "b_Intercept"]
    row = flat[(flat[".chain"] == 2) & (flat[".iteration"] == 7)].iloc[0]
    assert row[".draw"] == DRAWS + 7
    assert row["b_x"] == sample.b[1, 6, 1]
    assert row["r_person[p2,w]"] == sample.r[0][1, 6, 0, 2]


def test_covariance_is_that_of_sd_and_cor() -> None:
    sample, design = made_up((CORRELATED,))
    parameters = label(sample, design, DATA).parameters(design)
    sd = sample.sd[0].reshape(-1, 3)
    ab, ac, bc = sample.cor[0].reshape(-1, 3).T
    for s in (0, 57, CHAINS * DRAWS - 1):
        R = np.array([[1, ab[s], ac[s]], [ab[s], 1, bc[s]], [ac[s], bc[s], 1]])
        L = np.diag(sd[s]) @ np.linalg.cholesky(R)
        np.testing.assert_allclose(parameters.covariance[0][s], L @ L.T, rtol=1e-12)
    np.testing.assert_array_equal(parameters.b, sample.b.reshape(-1, 2))
    np.testing.assert_array_equal(parameters.r[0], sample.r[0].reshape(-1, 2, 3))


def test_covariance_of_independent_terms_is_diagonal() -> None:
    sample, design = made_up((("person", ("Intercept", "x"), False, ("p1", "p2")),))
    draws = label(sample, design, DATA)
    (covariance,) = draws.parameters(design).covariance
    np.testing.assert_allclose(covariance[5], np.diag(sample.sd[0].reshape(-1, 2)[5] ** 2))
    assert "cor" not in set(draws.terms(Interval())["class"])


def test_two_blocks_of_one_group_stay_apart() -> None:
    levels = ("p1", "p2")
    sample, design = made_up((("person", ("Intercept", "x"), True, levels), ("person", ("w", "v"), True, levels)))
    draws = label(sample, design, DATA)
    parameters = draws.parameters(design)
    for i in (0, 1):
        sd, cor = sample.sd[i].reshape(-1, 2), sample.cor[i].reshape(-1)
        np.testing.assert_allclose(parameters.covariance[i][:, 0, 1], sd[:, 0] * sd[:, 1] * cor)
        np.testing.assert_array_equal(parameters.r[i], sample.r[i].reshape(-1, 2, 2))
    named = draws.terms(Interval())["term"].tolist()
    assert named[-2:] == ["cor_person__Intercept__x", "cor_person__w__v"]


def test_a_level_of_a_monotonic_effect_lies_its_shares_of_all_steps_away() -> None:
    names = ("Intercept", "mo(rank)1", "mo(rank)2", "mo(rank)3")
    sample, design = made_up((), names)
    rng = np.random.default_rng(2)
    bsp, shares = rng.normal(size=(CHAINS, DRAWS, 1)), rng.dirichlet([2, 1, 1], (CHAINS, DRAWS))
    sample = replace(sample, b=sample.b[..., :1], bsp=bsp, simo=(shares,))
    b = label(sample, design, DATA).parameters(design).b
    for level in range(4):  # b D (s_1 + ... + s_x), so that b is the mean of the D steps
        eta = b @ np.array([1, *(level > step for step in range(3))])
        expected = sample.b[..., 0] + bsp[..., 0] * 3 * shares[..., :level].sum(axis=-1)
        np.testing.assert_allclose(eta, expected.ravel(), rtol=1e-12)


def test_fewer_draws_are_evenly_spaced() -> None:
    sample, design = made_up((CORRELATED,))
    parameters = label(sample, design, DATA).parameters(design, most=3)
    np.testing.assert_array_equal(parameters.b, sample.b.reshape(-1, 2)[[0, 59, 119]])
    assert len(parameters.covariance[0]) == len(parameters.r[0]) == 3


def test_parameters_of_another_design_are_refused_not_misread() -> None:
    sample, design = made_up((CORRELATED,))
    _, other = made_up((CORRELATED,), names=("Intercept", "z"))
    with pytest.raises(KeyError):
        label(sample, design, DATA).parameters(other)


@pytest.mark.parametrize(
    "group",
    ["person", "batch:cask", "chain", "draw", "term", "b", "trial_row", "lp", "a/b", "mit Lücke", "r_person", "sd"],
)
def test_any_name_of_a_group_survives_the_file_bit_for_bit(group: str, tmp_path: Path) -> None:
    levels = ("1", "2", "ü:x")
    sample, design = made_up(((group, ("Intercept", "I(x^2)"), True, levels), ("other", ("Intercept",), True, levels)))
    draws = label(sample, design, DATA.rename(columns={"who": group}))
    again = reread(draws, tmp_path / "draws.nc")
    for name, dataset in draws.groups.items():
        assert set(again.groups[name].variables) == set(dataset.variables)
        for key, variable in dataset.variables.items():
            read = again.groups[name][key]
            assert read.dims == variable.dims
            assert read.dtype == variable.dtype or variable.dtype == object  # text has its own types in a file
            np.testing.assert_array_equal(read.to_numpy(), variable.to_numpy())
    np.testing.assert_array_equal(again.parameters(design).r[0], sample.r[0].reshape(-1, 3, 2))
    np.testing.assert_array_equal(again.parameters(design).covariance[0], draws.parameters(design).covariance[0])
    assert again.terms(Interval(), random=True).equals(draws.terms(Interval(), random=True))
    again.to_arviz()


def test_the_same_draws_make_the_same_file(tmp_path: Path) -> None:
    draws = label(*made_up((CORRELATED,)), DATA)
    for name in ("one", "two"):
        netcdf.write(draws.groups, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_file_cut_short_is_named(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "draws.nc"
    netcdf.write(label(*made_up((CORRELATED,)), DATA).groups, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FitError, match=r"draws\.nc cannot be read"):
        netcdf.read(path)


def test_arviz_summarises_a_fit(fitted: Callable[[str], Fit]) -> None:
    fit = fitted("counts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        summary = az.summary(fit.draws, var_names=["b", "sd_observer"], round_to="none")
    ours = fit.terms().set_index("term")
    assert summary.index.tolist() == ["b[Intercept]", "b[contrast]", "sd_observer[Intercept]"]
    np.testing.assert_allclose(summary["mean"], ours["estimate"], rtol=1e-10)
    np.testing.assert_allclose(summary["r_hat"], ours["rhat"], rtol=1e-6)


def test_percent_signs_and_slashes_in_names_survive_the_file(tmp_path):
    rows = pd.DataFrame({"p%2Fq": ["a", "b"] * 10, "r/s": ["u", "v"] * 10, "100%": np.arange(20.0)})
    rows["correct"] = [0, 1] * 10
    formula = "correct ~ `p%2Fq` + `100%` + (1 | `r/s`)"
    fit = known_fit(formula, rows, {"Intercept": 0, "p%2Fqb": 1, "100%": 2})
    again = reread(fit.draws_table, tmp_path / "draws.nc")
    assert list(again.groups["constant_data"]) == list(fit.draws_table.groups["constant_data"])
    pd.testing.assert_frame_equal(again.flat(random=True), fit.draws_table.flat(random=True))
