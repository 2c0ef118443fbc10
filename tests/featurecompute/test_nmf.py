"""NMF: known factors come back, the objective never grows, codes are exact and each row's own."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from featurecompute.comparison import compare_atoms
from featurecompute.errors import DictionaryError
from featurecompute.nmf import Settings, encode_nmf, factorise, unit


def planted(n=3000, width=12, rank=24, active=2, noise=0.02, seed=0, dtype=torch.float32):
    """Rows that are sums of a few of `rank` known atoms."""
    generator = torch.Generator().manual_seed(seed)
    atoms = unit(torch.rand(rank, width, generator=generator) ** 3)
    places = torch.rand(n, rank, generator=generator).argsort(1)[:, :active]
    codes = torch.zeros(n, rank).scatter_(1, places, -torch.rand(n, active, generator=generator).log())
    rows = codes @ atoms + noise * torch.randn(n, width, generator=generator)
    return rows.clamp_min(0).to(dtype), atoms.to(dtype)


def test_separable_factors_are_found_exactly():
    generator = torch.Generator().manual_seed(1)
    atoms = unit(torch.rand(6, 30, generator=generator) * (torch.rand(6, 30, generator=generator) < 0.4))
    codes = torch.cat([torch.eye(6) * 2, torch.rand(2000, 6, generator=generator)]) * 3
    codes *= torch.rand(codes.shape, generator=generator) < 0.5
    found = factorise((codes @ atoms).double(), 6, seed=0)
    assert found.error < 2e-3
    assert compare_atoms(found.atoms, atoms) > 0.999


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_more_atoms_than_channels_are_found_by_their_sparsity(seed):
    rows, atoms = planted(8000)
    assert compare_atoms(factorise(rows, 24, sparsity=0.1, seed=seed).atoms, atoms) > 0.98
    assert torch.allclose(factorise(rows[:300], 24, sparsity=0.1, seed=seed).atoms.norm(dim=1), torch.ones(24))


@pytest.mark.parametrize("sparsity", [0.0, 0.2])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("warm", [0.0, 0.1])
def test_the_objective_never_grows(sparsity, signed, warm):
    rows, _ = planted(dtype=torch.float64)
    rows = rows - 0.1 if signed else rows
    settings = Settings(iterations=80, tolerance=-1.0, warm=warm)
    trace = np.array(factorise(rows, 8, sparsity=sparsity, signed=signed, settings=settings).objective)
    assert len(trace) > 10
    assert (np.diff(trace) <= 1e-10 * trace[0]).all()


def test_the_reported_objective_and_error_are_those_of_the_factors():
    rows, _ = planted()
    found = factorise(rows, 8, sparsity=0.1, settings=Settings(iterations=21, tolerance=-1.0))
    rest = (rows.double() - found.codes.double() @ found.atoms.double()).square().sum()
    assert found.error == pytest.approx(float((rest / rows.double().square().sum()).sqrt()), rel=1e-5)
    whole = 0.5 * float(rest) + found.penalty * float(found.codes.double().sum())
    assert found.objective[-1] == pytest.approx(whole, rel=1e-5)


def test_the_error_is_that_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    rows, _ = planted(1500, 40, 8, 3, noise=0.05)
    theirs = decomposition.NMF(8, solver="cd", init="nndsvda", max_iter=500, tol=1e-5).fit(rows.numpy())
    ours = factorise(rows, 8, settings=Settings(tolerance=1e-6))
    assert ours.error * float(rows.norm()) <= theirs.reconstruction_err_ * 1.002


def test_codes_are_the_non_negative_least_squares():
    optimize = pytest.importorskip("scipy.optimize")
    rows, atoms = planted(40, 30, 12, 4, dtype=torch.float64)
    codes = encode_nmf(rows, atoms)
    for row, code in zip(rows.numpy(), codes.numpy(), strict=True):
        expected, _ = optimize.nnls(atoms.numpy().T, row)
        np.testing.assert_allclose(code, expected, atol=2e-5)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
@pytest.mark.parametrize("rank", [8, 24])
def test_codes_meet_the_conditions_of_the_minimum(penalty, rank):
    rows, _ = planted(dtype=torch.float64)
    atoms = unit(torch.randn(rank, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    codes = encode_nmf(rows, atoms, penalty)
    slope = (codes @ atoms - rows) @ atoms.T + penalty
    size = rows.norm(dim=1, keepdim=True)
    # Without a penalty and with more atoms than channels the minimum is a whole face, and the way along it is slow.
    least = 1e-3 if rank == 24 and not penalty else 1e-5
    assert bool((codes >= 0).all())
    # Karush, Kuhn, Tucker: no slope is negative, and where a code is above zero there is none.
    assert float((slope / size).min()) > -least
    assert float(((slope * (codes > 0)) / size).abs().max()) < least


def test_a_rows_codes_do_not_depend_on_the_rows_beside_it():
    rows, atoms = planted(5000)
    together = encode_nmf(rows, atoms, 0.1)

    def differ(codes, others, some):
        # In units of the row's norm, by which a row's end is judged.
        return float(((codes - others).abs().amax(1) / some.norm(dim=1)).max())

    for size in (1, 37, 1000):
        some = rows[: 8 * size]
        apart = torch.cat([encode_nmf(part, atoms, 0.1) for part in torch.split(some, size)])
        assert differ(together[: 8 * size], apart, some) < 4e-6
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    assert differ(encode_nmf(rows[order], atoms, 0.1), together[order], rows[order]) < 4e-6


def test_codes_scale_with_the_rows_and_no_rows_have_none():
    rows, atoms = planted(200)
    assert torch.equal(encode_nmf(rows * 1024, atoms), encode_nmf(rows, atoms) * 1024)
    assert encode_nmf(rows[:0], atoms).shape == (0, 24)
    atoms[3] = 0
    assert not bool(encode_nmf(rows, atoms)[:, 3].any())
    assert not bool(encode_nmf(torch.zeros(2, 12), atoms).any())


def test_dead_atoms_are_revived():
    rows, atoms = planted(2000, 40, 8, 2)
    start = atoms.clone()
    start[4:] = start[:1]  # copies, and atoms that nothing needs
    start[6] = 0
    found = factorise(rows, 8, sparsity=0.05, start=start, settings=Settings(warm=0))
    assert bool((found.codes.sum(0) > 0).all())
    assert compare_atoms(found.atoms, atoms) > 0.97


def test_the_seed_decides():
    rows, _ = planted()
    one, two, other = (factorise(rows, 10, sparsity=0.1, seed=seed).atoms for seed in (4, 4, 5))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_signed_atoms_reconstruct_signed_rows():
    rows, _ = planted()
    rows = rows - rows.mean(0)
    with pytest.raises(DictionaryError, match="at least 0"):
        factorise(rows, 6)
    found = factorise(rows, 20, signed=True)
    assert bool((found.codes >= 0).all())
    assert bool((found.atoms < 0).any())
    assert found.error < 0.25


def test_rows_that_are_all_zero_are_refused():
    with pytest.raises(DictionaryError, match="zero"):
        factorise(torch.zeros(20, 4), 2)


def test_progress_is_told_and_may_interrupt():
    rows, _ = planted(300)
    seen = []
    factorise(rows, 4, progress=lambda done, of: seen.append((done, of)))
    assert seen[0] == (1, 500)

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        factorise(rows, 4, progress=stop)
