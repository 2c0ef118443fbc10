"""Dictionaries: every method is a basis, faults are named, others' dictionaries are understood."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from featurecompute.adapters import understand
from featurecompute.dictionaries import compare_atoms, fit_dictionary, fit_tiled, load_dictionary
from featurecompute.errors import DictionaryError
from featurecompute.files import write_arrays
from featurecompute.study import DictionaryTable

LEARNED = ("nmf", "semi_nmf", "sae", "pca", "kmeans")


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.rand(6, 10, generator=generator) ** 4
    codes = torch.rand(800, 6, generator=generator) * (torch.rand(800, 6, generator=generator) < 0.4)
    return (codes @ atoms).clamp_min(0)


def table(method="nmf", **settings):
    return DictionaryTable(**{"method": method, "rank": 6, "steps": 200, "stability_seeds": 1} | settings)


@pytest.mark.parametrize(
    "settings, shift",
    [({}, 0), ({"method": "semi_nmf"}, 0.05), ({"signed": "semi_nmf"}, 0.05), ({"signed": "relu"}, 0.05)],
)
def test_tiles_give_the_dictionary_that_all_rows_at_once_give(settings, shift, rows):
    rows = rows - shift
    wanted = fit_dictionary(rows, table(**settings), "layer2")
    found = fit_tiled(torch.split(rows, 130), table(**settings), "layer2")
    assert compare_atoms(found.atoms, wanted.atoms) > 0.999
    assert (found.method, found.warnings, found.seed) == (wanted.method, wanted.warnings, wanted.seed)
    assert found.parameters == pytest.approx(wanted.parameters)
    for name, value in vars(wanted.stats).items():
        assert getattr(found.stats, name) == pytest.approx(value, abs=2e-3), name


@pytest.mark.parametrize(
    "rows, settings, said",
    [
        (torch.full((40, 3), torch.nan), {}, "not finite"),
        (torch.zeros(40, 3), {}, "zero or left out"),
        (-torch.rand(40, 3), {"signed": "relu"}, "zero or left out"),
        (torch.ones(40, 3), {}, "is the same"),
        (-torch.rand(40, 3), {}, "set \\[dictionary\\] signed"),
        (torch.rand(5, 3), {}, "gives 5 rows to learn from, 5 of them not zero: too few for rank 6"),
        (torch.rand(40, 3), {"method": "pca"}, "tile by tile only with"),
    ],
)
def test_tiles_that_nothing_can_be_learned_from_are_refused(rows, settings, said):
    with pytest.raises(DictionaryError, match=said):
        fit_tiled(torch.split(rows, 16), table(**{"tile": 16} | settings), "layer2")


@pytest.mark.parametrize("method", LEARNED)
def test_every_method_is_a_basis(method, rows, tmp_path):
    found = fit_dictionary(rows, table(method), "layer2")
    assert (found.layer, found.method, found.representation, found.size) == ("layer2", method, "distributed", 6)
    codes = found.encode(rows)
    assert codes.shape == (800, 6)
    assert method == "pca" or bool((codes >= 0).all())
    assert torch.allclose(torch.cat([found.encode(part) for part in torch.split(rows, 77)]), codes, atol=1e-5)
    # Linear in the codes, plus a constant: what nulling a direction rests on.
    assert torch.allclose(
        found.decode(codes) - found.decode(codes * 0),
        (found.decode(2 * codes) - found.decode(codes * 0)) / 2,
        atol=1e-5,
    )
    assert torch.allclose(found.atoms.norm(dim=1), torch.ones(6), atol=1e-5)
    assert 0.3 < found.stats.reconstruction <= 1
    record = found.record()
    assert set(record) >= {"layer", "method", "rank", "scope", "seed", "sha256", "reconstruction", "sparsity", "dead"}
    assert 0.2 < record["stability"] <= 1 + 1e-9
    again = load_dictionary(found.save(tmp_path / "one.safetensors"))
    assert again.sha256 == found.sha256
    assert again.record() == record
    assert torch.equal(again.encode(rows), codes)
    again.save(tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_the_hash_holds_what_defines_a_dictionary(rows):
    one, two = fit_dictionary(rows, table(), "a"), fit_dictionary(rows, table(), "a")
    assert one.sha256 == two.sha256
    assert replace(one, layer="b", warnings=("x",)).sha256 == one.sha256
    assert replace(one, parameters={"penalty": 2.0}).sha256 != one.sha256
    assert replace(one, atoms=one.atoms * 2).sha256 != one.sha256
    assert fit_dictionary(rows, table(), "a", seed=9).sha256 != one.sha256


def test_the_figures_are_those_of_the_codes(rows):
    found = fit_dictionary(rows[:90], table(), "a")
    codes = found.encode(rows[:90])
    rest = rows[:90] - found.decode(codes)
    variance = (rows[:90] - rows[:90].mean(0)).square().sum()
    assert found.stats.reconstruction == pytest.approx(1 - float(rest.square().sum() / variance), abs=1e-5)
    assert found.stats.reconstruction == found.stats.reconstruction_fitted
    assert found.stats.energy == pytest.approx(1 - float(rest.square().sum() / rows[:90].square().sum()), abs=1e-5)
    assert found.stats.sparsity == pytest.approx(float((codes == 0).double().mean()))
    assert found.stats.dead == int((codes.sum(0) == 0).sum())


def test_components_do_not_hang_on_signs(rows):
    found = fit_dictionary(rows, table("pca"), "a")
    assert bool((found.atoms.gather(1, found.atoms.abs().argmax(1, keepdim=True)) > 0).all())
    values = torch.linalg.eigvalsh(torch.cov(rows[:, :].T)).flip(0)
    assert found.stats.reconstruction_fitted == pytest.approx(float(values[:6].sum() / values.sum()), abs=0.01)
    assert found.record()["stability"] == 1.0


def test_a_cluster_s_code_is_the_projection_on_its_centre_alone(rows):
    found = fit_dictionary(rows, table("kmeans"), "a")
    codes = found.encode(rows)
    assert int((codes > 0).sum(1).max()) == 1
    centres = found.atoms * found.state["norms"][:, None]
    nearest = torch.cdist(rows, centres).argmin(1)
    assert bool((codes.argmax(1) == nearest)[codes.any(1)].float().mean() > 0.999)


def test_negative_activations_need_a_decision(rows):
    signed = rows - 0.05
    with pytest.raises(DictionaryError, match=r"layer 'x' .*'relu'.*'semi_nmf'"):
        fit_dictionary(rows, table(), "x", signed=True)
    with pytest.raises(DictionaryError, match="negative"):
        fit_dictionary(signed, table(), "x")
    positive = fit_dictionary(signed, table(signed="relu"), "x")
    assert positive.method == "nmf"
    assert "left out" in positive.warnings[0]
    assert torch.equal(positive.encode(signed), positive.encode(signed.clamp_min(0)))
    assert fit_dictionary(signed, table(signed="semi_nmf"), "x").method == "semi_nmf"
    assert fit_dictionary(signed, table("pca"), "x", signed=True).method == "pca"


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (lambda rows: rows * 0, {}, "is zero"),
        (lambda rows: rows[:1].expand(50, -1), {}, "is the same"),
        (lambda rows: rows / 0, {}, "not finite"),
        (lambda rows: rows[:5], {}, "too few for rank 6"),
        (lambda rows: torch.cat([rows[:3], torch.zeros(50, 10)]), {}, "too few for rank 6"),
        (lambda rows: rows[0], {}, "rows x channels"),
        (lambda rows: rows[:0], {}, "rows x channels"),
        (lambda rows: rows, {"method": "pca", "rank": 11}, "at most 10 components"),
        (lambda rows: rows, {"method": "sae", "active": 7}, "1 to 6"),
        (lambda rows: rows, {"method": "file"}, "needs a path"),
        (lambda rows: rows, {"method": "object", "path": "nowhere"}, "module:function"),
        (lambda rows: rows, {"method": "object", "path": "nowhere:at_all"}, "cannot be made"),
        (lambda rows: rows, {"method": "file", "path": "nowhere.npy"}, "cannot be read"),
        (lambda rows: rows, {"method": "file", "path": "nowhere.safetensors"}, "cannot be read"),
    ],
)
def test_faults_are_named(rows, change, settings, said):
    with pytest.raises(DictionaryError, match=said):
        fit_dictionary(change(rows), table(**settings), "a")


def test_rows_of_another_width_are_refused(rows):
    with pytest.raises(DictionaryError, match="10 channels"):
        fit_dictionary(rows, table(), "a").encode(rows[:, :4])


def test_a_reader_is_warned(rows):
    settings = {"rank": 12, "sparsity": 0.0, "stability_seeds": 0}
    found = fit_dictionary(rows, table(**settings), "a")
    assert any("not identifiable" in warning for warning in found.warnings)
    assert found.record()["stability"] is None
    assert not any("identifiable" in warning for warning in fit_dictionary(rows, table(rank=12), "a").warnings)


def test_matrices_are_read_from_files(rows, tmp_path):
    atoms = np.random.default_rng(0).uniform(size=(4, 10)).astype(np.float32)
    write_arrays(tmp_path / "d.safetensors", {"layer1": atoms, "layer1.offset": np.full(10, 0.1, np.float32)})
    np.save(tmp_path / "d.npy", atoms.astype(np.float64))
    found = fit_dictionary(rows, table("file", path="d.safetensors"), "layer1", base=tmp_path)
    assert compare_atoms(found.atoms, torch.tensor(atoms)) == pytest.approx(1)
    assert found.size == 4
    assert found.seed is None
    assert torch.allclose(found.offset, torch.tensor(0.1))
    assert bool((found.encode(rows) >= 0).all())
    assert fit_dictionary(rows, table("file", path="d.npy"), "layer1", base=tmp_path).offset is None
    with pytest.raises(DictionaryError, match=r"no matrix for layer 'layer2' \(did you mean 'layer1'"):
        fit_dictionary(rows, table("file", path="d.safetensors"), "layer2", base=tmp_path)
    with pytest.raises(DictionaryError, match="rank x 9"):
        fit_dictionary(rows[:, :9], table("file", path="d.npy"), "layer1", base=tmp_path)


class Estimator:
    """As scikit-learn's: fitted to arrays, components and a mean."""

    def get_params(self):
        return {}

    def fit(self, rows):
        self.mean_ = rows.mean(0)
        self.components_ = np.linalg.svd(rows - self.mean_, full_matrices=False)[2][:3]
        return self

    def transform(self, rows):
        return (rows - self.mean_) @ self.components_.T


class Autoencoder(torch.nn.Module):
    """As Overcomplete's: encode gives a tuple, the dictionary is asked for."""

    fitted = True

    def __init__(self):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.eye(10)[:5] * 2)

    def encode(self, rows):
        before = rows @ self.matrix.T / 4
        return before, before.relu()

    def decode(self, codes):
        return codes @ self.matrix

    def get_dictionary(self):
        return self.matrix


class Lens:
    """As SAELens': W_dec, and biases in encode and decode."""

    def __init__(self):
        self.W_dec = torch.eye(10)[:4]
        self.b_dec = torch.full((10,), 0.2)

    def encode(self, rows):
        return ((rows - self.b_dec) @ self.W_dec.T).relu()

    def decode(self, codes):
        return codes @ self.W_dec + self.b_dec


class Restless(Lens):
    """Codes depend on the rows beside them."""

    def encode(self, rows):
        return super().encode(rows) + rows.mean()


class Bent(Lens):
    """Not linear in its codes."""

    def decode(self, codes):
        return (codes @ self.W_dec).square()


def test_objects_of_other_libraries_are_understood(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "given", sys.modules[__name__])

    def fit(name):
        return fit_dictionary(rows, table("object", path=f"given:{name}"), "a", base=tmp_path)

    estimator = fit("Estimator")
    assert estimator.size == 3
    assert torch.allclose(estimator.offset, rows[:720].mean(0), atol=0.03)
    assert estimator.stats.reconstruction > 0.5
    autoencoder = fit("Autoencoder")
    assert torch.allclose(autoencoder.atoms, torch.eye(10)[:5] * 2)
    assert torch.allclose(autoencoder.decode(autoencoder.encode(rows))[:, :5], rows[:, :5], atol=1e-6)
    lens = fit("Lens")
    assert torch.allclose(lens.offset, torch.tensor(0.2))
    assert lens.warnings == ()
    assert any("depend on the rows beside" in warning for warning in fit("Restless").warnings)
    with pytest.raises(DictionaryError, match="not linear"):
        fit("Bent")
    with pytest.raises(DictionaryError, match="is not understood"):
        understand(object(), "a", rows)
    path = lens.save(tmp_path / "lens.safetensors")
    with pytest.raises(DictionaryError, match="without the object"):
        load_dictionary(path).encode(rows)
    assert torch.equal(load_dictionary(path, tmp_path, rows).encode(rows), lens.encode(rows))


def test_a_module_beside_the_study_file_is_found(rows, tmp_path):
    (tmp_path / "my_directions.py").write_text(
        "import numpy as np\ndef atoms(layer):\n    return np.eye(10)[: 3 if layer == 'a' else 2]\n", encoding="utf-8"
    )
    found = fit_dictionary(rows, table("object", path="my_directions:atoms"), "a", base=tmp_path)
    assert found.size == 3
    assert str(tmp_path) not in sys.path
    assert load_dictionary(found.save(tmp_path / "d.safetensors")).sha256 == found.sha256


def test_scikit_learn_itself_is_understood(rows):
    decomposition = pytest.importorskip("sklearn.decomposition")
    found = understand(decomposition.PCA(4), "a", rows)
    assert found.fitted
    assert found.encode(rows).shape == (800, 4)


def test_damaged_files_are_refused(rows, tmp_path):
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    write_arrays(tmp_path / "other.safetensors", {"a": np.zeros(3)})
    for name in ("no", "other", "missing"):
        with pytest.raises(DictionaryError, match="cannot be read"):
            load_dictionary(tmp_path / f"{name}.safetensors")


def test_progress_runs_over_all_seeds(rows):
    seen = []
    fit_dictionary(rows, table("sae"), "a", progress=lambda done, of: seen.append(done / of))
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_atoms_match_whatever_their_order():
    atoms = torch.eye(5)
    assert compare_atoms(atoms, atoms[[3, 1, 4, 0, 2]]) == pytest.approx(1)
    assert compare_atoms(atoms, atoms[:2]) == pytest.approx(1)
    assert compare_atoms(atoms, torch.zeros(5, 5)) == 0
