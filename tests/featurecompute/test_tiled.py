"""NMF over tiles is NMF: the same descent as in memory, whatever the tiles; planted atoms come back."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from test_nmf import planted

from featurecompute.comparison import compare_atoms
from featurecompute.errors import DictionaryError
from featurecompute.nmf import Descent, Settings, encode_nmf, factorise, unit
from featurecompute.tiled import Part, factorise_tiles, survey

SOME = Settings(iterations=31, tolerance=-1.0, warm=0.0)


def cut(rows, *sizes):
    """Cut rows into tiles of these sizes, the last again and again."""
    tiles = []
    while len(rows):
        size, sizes = sizes[0], sizes[1:] or sizes
        tiles.append(rows[:size])
        rows = rows[size:]
    return tiles


def residual(rows, atoms, penalty):
    """Return how far an atom is from the best one given the others and the codes (Karush, Kuhn and Tucker)."""
    rows, atoms = rows.double(), atoms.double()
    codes = encode_nmf(rows, atoms, penalty)
    gram = codes.T @ codes
    best = unit((codes.T @ rows - gram.fill_diagonal_(0) @ atoms).clamp_min(0))
    return float((best - atoms).norm(dim=1).max())


@pytest.mark.parametrize("sparsity", [0.0, 0.2])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("sizes", [(5000,), (1000,), (700, 1, 2300, 999)])
def test_it_is_the_descent_of_factorise_from_the_same_atoms(sparsity, signed, sizes):
    rows, _ = planted(5000, dtype=torch.float64)
    rows = rows - 0.1 if signed else rows
    start = unit(torch.rand(8, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    kw = {"sparsity": sparsity, "signed": signed, "start": start, "settings": SOME}
    wanted = factorise(rows, 8, **kw)
    found = factorise_tiles(cut(rows, *sizes), 8, **kw)
    assert found.penalty == pytest.approx(wanted.penalty, rel=1e-12)
    np.testing.assert_allclose(found.objective, wanted.objective, rtol=1e-10)
    torch.testing.assert_close(found.atoms, wanted.atoms, rtol=0, atol=1e-9)
    assert found.error == pytest.approx(wanted.error, rel=1e-9)
    assert (found.iterations, found.converged) == (wanted.iterations, wanted.converged) == (31, False)


def test_float32_ends_where_factorise_ends():
    rows, _ = planted(6000)
    wanted = factorise(rows, 24, sparsity=0.1, seed=1)
    for sizes in ((6000,), (2500,)):
        found = factorise_tiles(cut(rows, *sizes), 24, sparsity=0.1, seed=1)
        assert found.converged
        assert found.objective[-1] == pytest.approx(wanted.objective[-1], rel=1e-4)
        assert compare_atoms(found.atoms, wanted.atoms) > 0.999
    # Both stop where the objective hardly falls, which is not yet where no atom moves.
    few = rows[:2000]
    assert abs(residual(few, found.atoms, found.penalty) - residual(few, wanted.atoms, wanted.penalty)) < 5e-3


def test_planted_atoms_come_back_from_tiles_smaller_than_a_first_descent():
    rows, atoms = planted(8000)
    found = factorise_tiles(cut(rows, 600), 24, sparsity=0.1)
    assert compare_atoms(found.atoms, atoms) > 0.97
    assert found.objective[-1] < 1.02 * factorise(rows, 24, sparsity=0.1).objective[-1]


@pytest.mark.parametrize("sparsity", [0.0, 0.2])
@pytest.mark.parametrize("signed", [False, True])
def test_the_objective_never_grows_and_is_that_of_the_factors(sparsity, signed):
    rows, _ = planted(4000, dtype=torch.float64)
    rows = rows - 0.1 if signed else rows
    found = factorise_tiles(cut(rows, 900), 8, sparsity=sparsity, signed=signed, settings=SOME)
    assert (np.diff(found.objective) <= 1e-10 * found.objective[0]).all()
    codes = encode_nmf(rows, found.atoms, found.penalty)
    best = 0.5 * float((rows - codes @ found.atoms).square().sum()) + found.penalty * float(codes.sum())
    assert best <= found.objective[-1] * (1 + 1e-9)
    assert best == pytest.approx(found.objective[-1], rel=0.02)


def test_atoms_without_codes_find_what_the_worst_rows_lack():
    rows, _ = planted(4000, rank=6, dtype=torch.float64)
    start = unit(torch.rand(6, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    start[1:4] = 0
    kw = {"sparsity": 0.05, "start": start, "settings": SOME}
    wanted, found = factorise(rows, 6, **kw), factorise_tiles(cut(rows, 1500), 6, **kw)
    assert (found.atoms.norm(dim=1) > 0.99).all()
    torch.testing.assert_close(found.atoms, wanted.atoms, rtol=0, atol=1e-8)


def test_sums_over_parts_of_the_rows_add_up_to_those_over_all():
    rows, atoms = planted(3000)
    sums = []
    for part in (rows, rows[:1100], rows[1100:]):
        descent = Descent(part, 0.1, False)
        descent.begin(atoms)
        descent.run(1, SOME, None)
        sums.append((descent.cross, descent.gram, descent.total))
    for whole, first, second in zip(*sums, strict=True):
        assert whole.dtype == torch.float64
        torch.testing.assert_close(first + second, whole, rtol=1e-6, atol=1e-4)


def test_one_look_tells_what_the_rows_are():
    rows, _ = planted(500)
    rows[3] = 0
    rows[7, 2] = -2.0
    found = survey(cut(rows, 130))
    assert (found.count, found.width, found.longest, found.busy) == (500, 12, 130, int(rows.any(1).sum()))
    assert (found.finite, found.alike, found.below) == (True, False, 4.0)
    assert found.norm == pytest.approx(float(rows.norm(dim=1).double().mean()))
    assert found.energy == pytest.approx(float(rows.double().square().sum()))
    assert survey([torch.ones(3, 2), torch.ones(1, 2)]).alike
    assert not survey([torch.ones(3, 2), torch.tensor([[1.0, torch.inf]])]).finite


def test_a_part_of_the_rows_keeps_their_order():
    rows = torch.randn(70, 3, generator=torch.Generator().manual_seed(0))
    chosen = torch.rand(70, generator=torch.Generator().manual_seed(1)) < 0.4
    before = rows.clone()
    assert torch.equal(torch.cat(list(Part(cut(rows, 16), chosen))), rows[chosen])
    assert torch.equal(torch.cat(list(Part(cut(rows, 16), chosen, True))), rows[chosen].clamp_min(0))
    assert torch.equal(rows, before)


@pytest.mark.parametrize(
    "tiles, said",
    [
        ([], "no rows"),
        ([torch.zeros(5, 3)], "every row of activations is zero"),
        ([torch.ones(5, 3), -torch.ones(2, 3)], "negative ones can be factorised with signed atoms"),
    ],
)
def test_rows_that_cannot_be_factorised_are_refused(tiles, said):
    with pytest.raises(DictionaryError, match=said):
        factorise_tiles(tiles, 2)


def test_the_file_of_codes_leaves_nothing(tmp_path):
    factorise_tiles(cut(planted(900)[0], 200), 4, folder=tmp_path, settings=SOME)
    assert list(tmp_path.iterdir()) == []
