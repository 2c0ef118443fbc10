"""Sweeps: every update is the minimum of its column, dead atoms stay, kernels that fail or err are not taken."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from featurecompute import kernels, sweeps

RANK, WIDTH, COUNT, PENALTY = 6, 9, 11, 0.3


@pytest.fixture
def problem():
    """Rows, atoms and codes, of which one atom is zero and another has no codes."""
    generator = torch.Generator().manual_seed(2)
    rows, atoms, codes = (
        torch.rand(shape, generator=generator, dtype=torch.float64)
        for shape in ((COUNT, WIDTH), (RANK, WIDTH), (RANK, COUNT))
    )
    atoms[2], codes[4] = 0, 0
    return rows, atoms, codes


def objective(rows, atoms, codes):
    rest = rows - codes.T @ atoms
    return 0.5 * rest.square().sum(1) + PENALTY * codes.sum(0)


def test_each_code_is_the_minimum_of_its_column(problem):
    rows, atoms, codes = problem
    pull, inward, shift = sweeps.prepare(atoms, PENALTY)
    target = torch.addmm(shift, inward, rows.T)
    expected = codes.numpy().copy()
    for _ in range(2):
        for k in range(RANK):
            norm = float(atoms[k] @ atoms[k])
            if norm > 0:
                expected[k] = 0
                rest = rows.numpy() - expected.T @ atoms.numpy()
                expected[k] = np.maximum(rest @ atoms[k].numpy() - PENALTY, 0) / norm
    before = objective(rows, atoms, codes)
    kept = codes[2].clone()
    sweeps.sweep_codes(codes, target, pull, 2)
    np.testing.assert_allclose(codes.numpy(), expected, atol=1e-12)
    assert torch.equal(codes[2], kept)
    assert bool((objective(rows, atoms, codes) <= before).all())


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("free", [False, True])
def test_each_atom_is_the_best_given_the_others(problem, signed, free):
    rows, atoms, codes = problem
    rows = rows - 0.5 * signed
    expected = atoms.numpy().copy()
    for k in range(RANK):
        if k != 4:
            own = codes[k].numpy()
            rest = rows.numpy() - np.delete(codes.numpy(), k, 0).T @ np.delete(expected, k, 0)
            best = own @ rest if signed else np.maximum(own @ rest, 0)
            if best.any():
                expected[k] = best / (own @ own if free else np.linalg.norm(best))
    sweeps.sweep_atoms(atoms, codes @ rows, codes @ codes.T, 1, signed=signed, free=free)
    np.testing.assert_allclose(atoms.numpy(), expected, atol=1e-12)


def test_a_processor_takes_no_kernels(problem):
    assert not sweeps.fused(problem[0].float())
    assert not kernels.available(torch.device("cpu"))


def test_kernels_that_fail_or_err_are_not_taken_and_it_is_said(monkeypatch):
    def fail(*_):
        raise RuntimeError("no compiler\nsecond line")

    for sweep, reason in ((fail, r"\(no compiler\)"), (lambda *_: None, "results differ")):
        monkeypatch.setattr(kernels, "sweep_codes", sweep)
        monkeypatch.setattr(kernels, "sweep_atoms", sweeps._atoms)
        with pytest.warns(UserWarning, match=reason):
            assert not sweeps._agree.__wrapped__(torch.device("cpu"))
