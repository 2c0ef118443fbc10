"""The autoencoder: few codes, few dead atoms, the same seed the same atoms."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from featurecompute.errors import DictionaryError
from featurecompute.nmf import unit
from featurecompute.sae import train_sae


def planted(n=4000, width=32, rank=16, active=2, seed=0):
    """Rows about an offset that are sums of two of 16 known directions."""
    generator = torch.Generator().manual_seed(seed)
    atoms = unit(torch.randn(rank, width, generator=generator))
    places = torch.rand(n, rank, generator=generator).argsort(1)[:, :active]
    codes = torch.zeros(n, rank).scatter_(1, places, 1 + torch.rand(n, active, generator=generator))
    return codes @ atoms + 0.02 * torch.randn(n, width, generator=generator), atoms


def explained(model, rows):
    rest = rows - model.decode(model.encode(rows))
    return 1 - float(rest.square().sum() / (rows - rows.mean(0)).square().sum())


def test_known_directions_come_back():
    from featurecompute.comparison import compare_atoms

    rows, atoms = planted()
    model = train_sae(rows, 16, 2, 800)
    assert compare_atoms(model.atoms, atoms) > 0.7
    assert explained(model, rows) > 0.9
    assert torch.allclose(model.atoms.norm(dim=1), torch.ones(16), atol=1e-5)


def test_codes_are_few_not_negative_and_each_rows_own():
    rows, _ = planted()
    model = train_sae(rows, 16, 3, 100)
    codes = model.encode(rows)
    assert bool((codes >= 0).all())
    assert int((codes > 0).sum(1).max()) <= 3
    apart = torch.cat([model.encode(part) for part in torch.split(rows[:200], 7)])
    assert torch.allclose(codes[:200], apart, atol=1e-5)


def test_unused_atoms_are_revived():
    rows, _ = planted()
    model = train_sae(rows, 64, 2, 800)
    assert int((model.encode(rows).sum(0) == 0).sum()) <= 6


def test_the_sparse_decoder_learns_like_the_dense_one(monkeypatch):
    from featurecompute import sae

    rows, _ = planted()
    found = []
    for least in (1, 10_000):
        monkeypatch.setattr(sae, "_SPARSE_FROM", least)
        found.append(train_sae(rows, 16, 2, 30).atoms)
    assert torch.allclose(*found, atol=1e-3)


def test_the_seed_decides_and_scale_does_not():
    rows, _ = planted()
    one, two, other = (train_sae(rows, 8, 2, 60, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.atoms, two.atoms)
    assert torch.equal(one.encoder, two.encoder)
    assert not torch.equal(one.atoms, other.atoms)
    large = train_sae(rows * 256, 8, 2, 60, seed=1)
    assert torch.allclose(large.atoms, one.atoms, atol=1e-4)
    assert torch.allclose(large.encode(rows * 256), one.encode(rows) * 256, rtol=1e-2, atol=1.0)


def test_faults_and_progress():
    rows, _ = planted(50)
    with pytest.raises(DictionaryError, match="1 to 4"):
        train_sae(rows, 4, 5, 10)
    with pytest.raises(DictionaryError, match="the same"):
        train_sae(rows[:1].expand(20, -1), 4, 2, 10)
    seen = []
    assert train_sae(rows, 80, 2, 7, progress=lambda done, of: seen.append((done, of))).atoms.shape == (80, 32)
    assert seen[-1] == (7, 7)
