"""What nulling a unit does is what the whole network does without it; the tables say exactly that."""

# ruff: noqa: E402

import warnings

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from planted import learned, planted
from split_networks import Dense, Residual, loud, pictures, whole

from featurecompute.bases import NeuronBasis
from featurecompute.contributions import keep_all, logit_sd, measure, most_active, null
from featurecompute.errors import DictionaryError, InputError
from featurecompute.manifest import CONTRIBUTIONS
from featurecompute.replay import split
from featurecompute.terms import Terms, terms_of

LAYER = "block2.conv1"  # a skip crosses it


def scene(kind=Residual, layer=LAYER, batch=3):
    module, images = loud(kind), pictures(batch)
    suffix = split(module, layer, "bchw", images)
    return module, images, suffix


def encoded(basis, rows):
    """Codes (images x positions x units) of rows (images x positions x channels)."""
    return basis.encode(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])


def names_of(size):
    return {unit: f"f{unit}" for unit in range(size)}


def by_hand(maps, basis, image, unit):
    """Return, in fp64 and position by position, A - u_k v_k, decode(codes without k), and decode(codes)."""
    rows = maps[image].T.double()
    codes, atoms, offset = (rows @ basis.encoder.double()).clamp_min(0), basis.atoms.double(), basis.offset.double()
    subtracted, reconstructed, kept = rows.clone(), torch.zeros_like(rows), torch.zeros_like(rows)
    for place in range(len(rows)):
        subtracted[place] -= codes[place, unit] * atoms[unit]
        for k in range(len(atoms)):
            term = codes[place, k] * atoms[k]
            kept[place] += term
            reconstructed[place] += term * (k != unit)
    return subtracted.T, (reconstructed + offset).T, (kept + offset).T


@pytest.mark.parametrize("offset", [True, False])
def test_terms_are_the_planted_algebra(offset):
    maps = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(3))
    basis = planted("layer", 6, offset=offset)
    terms = terms_of(maps, basis)
    before = maps.clone()
    which, units = (grid.flatten() for grid in torch.meshgrid(torch.arange(2), torch.arange(5), indexing="ij"))
    found = {rest: terms.without(which, units, rest=rest).maps() for rest in (True, False)}
    norms = {rest: terms.norms(rest=rest) for rest in (True, False)}
    masks = 1 - torch.nn.functional.one_hot(units, 5).float()
    for place, (image, unit) in enumerate(zip(which.tolist(), units.tolist(), strict=True)):
        subtracted, reconstructed, kept = by_hand(maps, basis, image, unit)
        for rest, true in ((True, subtracted), (False, reconstructed)):
            torch.testing.assert_close(found[rest][place].double(), true, rtol=0, atol=1e-5)
            removed = (maps[image].double() - true).norm()
            torch.testing.assert_close(norms[rest][image, unit], removed, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(terms.kept[image].double(), kept, rtol=0, atol=1e-5)
    for rest in (True, False):  # a mask that is zero for one unit is that unit's nulling
        torch.testing.assert_close(terms.masked(which, masks, rest=rest), found[rest], rtol=0, atol=1e-5)
    assert torch.equal(maps, before)


def test_terms_of_neurons():
    maps = torch.randn(2, 4, 3)
    terms = terms_of(maps, NeuronBasis("layer", 4))
    found = terms.without(torch.tensor([1, 0]), torch.tensor([2, 0]), rest=True).maps()
    assert torch.equal(found[0, 2], torch.zeros(3))
    assert torch.equal(found[0, [0, 1, 3]], maps[1, [0, 1, 3]])
    assert torch.equal(found, terms.without(torch.tensor([1, 0]), torch.tensor([2, 0]), rest=False).maps())
    torch.testing.assert_close(terms.norms(rest=True), maps.double().norm(dim=2))
    assert torch.equal(terms.norms(rest=True), terms.norms(rest=False))
    weights = torch.tensor([[0.0, 0.5, 1.0, 2.0]])
    assert torch.equal(terms.masked(torch.tensor([1]), weights, rest=False)[0], maps[1] * weights[0][:, None])


def test_a_dictionary_that_does_not_decode_linearly_is_refused():
    class Curved(type(planted("layer", 4))):
        def decode(self, codes):
            return super().decode(codes).relu()

    basis = planted("layer", 4)
    curved = Curved(basis.layer, basis.encoder, basis.atoms, basis.offset)
    with pytest.raises(DictionaryError, match=r"'layer' \(planted\) does not decode linearly"):
        terms_of(torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0)), curved)


@pytest.mark.parametrize(("kind", "layer"), [(Residual, LAYER), (Residual, "block3"), (Dense, "layers.2")])
@pytest.mark.parametrize("method", ["subtract", "reconstruct"])
@pytest.mark.parametrize("source", ["planted", "nmf", "pca", "neurons"])
def test_nulling_is_the_whole_network_without_the_unit(kind, layer, method, source):
    module, images, suffix = scene(kind, layer)
    channels = suffix.maps.shape[1]
    if source == "planted":
        basis = planted(layer, channels)
    elif source == "neurons":
        basis = NeuronBasis(layer, channels)
    else:
        basis = learned(suffix.maps, layer, rank=3, method=source)
    table = measure(suffix, basis, names_of(basis.size), images=["a", "b", "c"], methods=[method], sd=2.0)
    targets = whole(module, layer, "bchw", images, suffix.maps).argmax(1)
    rows = suffix.maps.transpose(1, 2)
    codes = encoded(basis, rows)
    alone = basis.decode(torch.eye(basis.size)) - basis.decode(torch.zeros(1, basis.size))
    for unit in range(basis.size):
        if method == "subtract":
            nulled = rows - codes[:, :, unit, None] * alone[unit]
        else:
            without = codes.clone()
            without[:, :, unit] = 0
            nulled = basis.decode(without)
        kept = basis.decode(codes)
        true = {
            name: whole(module, layer, "bchw", images, maps)
            for name, maps in (
                ("logit", suffix.maps),
                ("logit_nulled", nulled.transpose(1, 2)),
                ("kept", kept.transpose(1, 2)),
            )
        }
        true = {name: logits.gather(1, targets[:, None])[:, 0].numpy() for name, logits in true.items()}
        part = table[table["feature"] == f"f{unit}"].set_index("image").loc[["a", "b", "c"]]
        assert part["target"].tolist() == targets.tolist()
        for name in ("logit", "logit_nulled"):
            np.testing.assert_allclose(part[name], true[name], atol=1e-5)
        np.testing.assert_allclose(part["drop"], true["logit"] - true["logit_nulled"], atol=1e-5)
        np.testing.assert_allclose(part["residual"], true["logit"] - true["kept"], atol=1e-5)
        np.testing.assert_allclose(part["norm"], (rows - nulled).flatten(1).norm(dim=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(part["drop_standardised"], part["drop"] / 2.0)
    assert table["drop"].abs().max() > 0.01
    assert (table["residual"].abs().max() > 0.01) == (source in {"planted", "nmf", "pca"})


def test_for_neurons_both_definitions_agree_and_nothing_is_left_over():
    _, _, suffix = scene()
    table = measure(suffix, NeuronBasis(LAYER, 8), names_of(8), images=["a", "b", "c"])
    values = table.pivot_table(index=["feature", "image"], columns="method", values=["logit_nulled", "drop", "norm"])
    for name in ("logit_nulled", "drop", "norm"):
        np.testing.assert_array_equal(values[name, "subtract"], values[name, "reconstruct"])
    assert (table["residual"] == 0).all()


@pytest.mark.parametrize("method", ["subtract", "reconstruct"])
@pytest.mark.parametrize("directions", [True, False])
def test_closed_form_is_the_replay(method, directions):
    _, _, suffix = scene(layer="block3")
    assert suffix.linear is not None
    basis = planted("block3", 16, size=6) if directions else NeuronBasis("block3", 16)
    terms = terms_of(suffix.maps, basis)
    which = torch.arange(3).repeat_interleave(basis.size)
    units = torch.arange(basis.size).repeat(3)
    targets = torch.tensor([0, 4, 2])
    closed = null(suffix, terms, which, units, targets, method=method)
    suffix._linear = None
    torch.testing.assert_close(closed, null(suffix, terms, which, units, targets, method=method), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", [LAYER, "block3"])
def test_the_batch_does_not_matter(layer):
    _, _, suffix = scene(layer=layer, batch=4)
    basis = planted(layer, suffix.maps.shape[1])
    methods = ("subtract", "reconstruct", "grad_x_act", "integrated_gradients", "sobol")
    tables = [
        measure(suffix, basis, names_of(5), images=list("abcd"), methods=methods, steps=3, designs=8, batch=batch)
        for batch in (1, 7, 32)
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], rtol=1e-4, atol=1e-5)
    # Nor do the images beside it.
    module, images = loud(Residual), pictures(4)
    alone = measure(split(module, layer, "bchw", images[2:3]), basis, names_of(5), images=["c"], sd=1.0)
    beside = measure(suffix, basis, names_of(5), images=list("abcd"), sd=1.0).query("image == 'c'")
    pd.testing.assert_frame_equal(alone, beside.reset_index(drop=True), rtol=1e-4, atol=1e-5)


def test_the_most_active_unit_is_the_normalised_maximum():
    codes = torch.tensor([[[1.0, 3.0], [4.0, 4.0], [9.0, 0.0]], [[2.0, 2.0], [0.0, 0.0], [1.0, 0.0]]])
    terms = Terms(codes, codes, None, codes)
    scale = torch.tensor([1.0, 10.0, 3.0])
    # Means 2, 4, 4.5 over the scale: 2, 0.4, 1.5; maxima 3, 4, 9: 3, 0.4, 3, of which the first counts.
    assert most_active(terms, scale).tolist() == [0, 0]
    assert most_active(terms, scale, "max").tolist() == [0, 0]
    assert most_active(terms, torch.tensor([0.0, 10.0, 3.0])).tolist() == [2, 2]
    assert most_active(terms, torch.tensor([torch.nan, 1.0, torch.inf])).tolist() == [1, 1]
    many = torch.ones(1, 5000, 3)  # of equals the first
    assert most_active(Terms(many, many, None, many), torch.ones(5000)).tolist() == [0]
    dead = torch.cat([torch.zeros(1), torch.ones(4999)])
    assert most_active(Terms(many, many, None, many), dead).tolist() == [1]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_the_most_active_unit_is_nulled_in_each_image(pooling):
    _, _, suffix = scene(batch=4)
    basis = planted(LAYER, 8)
    scale = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0])
    table = measure(suffix, basis, names_of(5), images=list("abcd"), fixed=[1, 3], scale=scale, pooling=pooling, sd=1.0)
    codes = encoded(basis, suffix.maps.transpose(1, 2))
    pooled = codes.mean(1) if pooling == "mean" else codes.amax(1)
    expected = [f"f{unit}" for unit in (pooled / scale).argmax(1).tolist()]
    for method in ("subtract", "reconstruct"):
        part = table[(table["method"] == method) & (table["selection"] == "most_active")]
        assert part["image"].tolist() == list("abcd")
        assert part["feature"].tolist() == expected
    fixed = table[table["selection"] == "fixed"]
    assert set(fixed["feature"]) == {"f1", "f3"}
    assert len(fixed) == 2 * 4 * 2
    both = table.merge(fixed, on=["feature", "image", "method"]).query("selection_x == 'most_active'")
    assert len(both) > 0
    np.testing.assert_array_equal(both["drop_x"], both["drop_y"])


def test_drops_are_standardised_by_the_networks_logits():
    _, _, suffix = scene()
    table = measure(suffix, NeuronBasis(LAYER, 8), names_of(8), images=list("abc"))
    sd = float(np.std(suffix.logits.numpy()))
    assert logit_sd(suffix.logits) == pytest.approx(sd)
    np.testing.assert_allclose(table["drop_standardised"], table["drop"] / sd)
    still = measure(suffix, NeuronBasis(LAYER, 8), names_of(8), images=list("abc"), sd=0.0)
    assert still["drop_standardised"].isna().all()


def test_the_table_is_that_of_the_manifest(tmp_path):
    _, _, suffix = scene()
    methods = ("subtract", "reconstruct", "grad_x_act", "integrated_gradients", "sobol")
    scale = torch.ones(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = measure(
            suffix, planted(LAYER, 8), names_of(5), images=list("abc"), methods=methods, scale=scale, designs=5
        )
    assert list(table.columns) == list(CONTRIBUTIONS.columns)
    assert len(table) == 5 * 3 * (5 + 1)
    CONTRIBUTIONS.check(table)
    CONTRIBUTIONS.write(tmp_path, table)
    read = CONTRIBUTIONS.read(tmp_path)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    scores = read["method"].isin(["grad_x_act", "integrated_gradients", "sobol"])
    np.testing.assert_array_equal(read["logit_nulled"].isna(), scores)
    np.testing.assert_array_equal(read["drop_standardised"].isna(), read["method"] == "sobol")
    sobol = read.loc[read["method"] == "sobol", "drop"]
    assert (sobol >= 0).all()
    assert (sobol > 0).any()


def test_targets_can_be_given_and_what_makes_no_sense_is_refused():
    _, _, suffix = scene()
    basis = NeuronBasis(LAYER, 8)
    targets = torch.tensor([3, 0, 1])
    table = measure(suffix, basis, {2: "two"}, images=list("abc"), targets=targets, methods=["subtract"])
    assert table["target"].tolist() == [3, 0, 1]
    np.testing.assert_allclose(table["logit"], suffix.logits[torch.arange(3), targets], rtol=1e-6)
    assert measure(suffix, basis, {}, images=list("abc")).empty
    with pytest.raises(InputError, match="there are 2 ids and 3 targets"):
        measure(suffix, basis, {2: "two"}, images=["a", "b"])
    with pytest.raises(InputError, match=f"unit 8 does not exist: the basis of layer '{LAYER}' has 8 units"):
        measure(suffix, basis, {8: "eight"}, images=list("abc"))
    with pytest.raises(InputError, match=r"unit 3 .* belongs to no feature"):
        measure(suffix, basis, {2: "two"}, images=list("abc"), fixed=[3])


def test_all_units_kept():
    module, images, suffix = scene()
    terms = terms_of(suffix.maps, planted(LAYER, 8))
    targets = torch.tensor([1, 1, 2])
    expected = whole(module, LAYER, "bchw", images, terms.kept).gather(1, targets[:, None])[:, 0]
    for batch in (1, 32):
        torch.testing.assert_close(keep_all(suffix, terms, targets, batch=batch), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # captum's own
@pytest.mark.parametrize(("kind", "layer"), [(Residual, LAYER), (Residual, "block3"), (Dense, "layers.1")])
def test_captum_finds_the_same_for_neurons(kind, layer):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed (extra 'benchmark')")
    module, images, suffix = scene(kind, layer)
    channels = suffix.maps.shape[1]
    table = measure(suffix, NeuronBasis(layer, channels), names_of(channels), images=list("abc"), methods=["subtract"])
    ablation = attr.LayerFeatureAblation(module, dict(module.named_modules())[layer])
    mask = torch.arange(channels)[None, :, None, None]
    found = ablation.attribute(images, target=suffix.logits.argmax(1), layer_mask=mask)[:, :, 0, 0]
    mine = table["drop"].to_numpy().reshape(3, channels)
    np.testing.assert_allclose(mine, found.numpy(), atol=1e-4)
    assert np.abs(mine).max() > 1e-2


@pytest.mark.gpu
@pytest.mark.parametrize("layer", [LAYER, "block3"])
def test_a_gpu_finds_what_the_cpu_finds(layer):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    tables = []
    for device in ("cpu", "cuda"):
        suffix = split(loud(Residual).to(device), layer, "bchw", pictures(4).to(device))
        basis = planted(layer, suffix.maps.shape[1])
        options = {"images": list("abcd"), "scale": torch.ones(5), "steps": 4, "designs": 8}
        methods = ("subtract", "reconstruct", "grad_x_act", "integrated_gradients", "sobol")
        tables.append(measure(suffix, basis, names_of(5), methods=methods, **options))
    pd.testing.assert_frame_equal(tables[0], tables[1], rtol=1e-4, atol=1e-4)
