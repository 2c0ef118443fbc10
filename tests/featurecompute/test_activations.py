"""The pass over images beside running each image and sorting; what it must refuse, and what it must leave behind."""

import gc
import hashlib
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from featurecompute import activations, compilation  # noqa: E402
from featurecompute.activations import NeuronBasis, name_of, scan_shard  # noqa: E402
from featurecompute.errors import InputError, NetworkError, RunError  # noqa: E402
from featurecompute.files import hash_arrays, write_arrays  # noqa: E402
from featurecompute.sampling import draw_positions  # noqa: E402
from featurecompute.scan import RowTiles, ShardFile, reduce_shards, rescore  # noqa: E402

N = 90
ENDS = ("top", "bottom")


class Tokens(nn.Module):
    """A layer that gives images x tokens x channels first in a tuple, as attention does."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def forward(self, x):
        return self.mix(x.flatten(2).transpose(1, 2)), None


class Small(nn.Module):
    """A network with a layer of each layout; an in-place ReLU follows the first."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.tokens = Tokens()
        self.head = nn.Linear(6, 4)
        self.idle = nn.Linear(2, 2)

    def forward(self, x):
        x = self.second(self.relu(self.first(x))).relu()
        return self.head(self.tokens(x)[0].mean(1))


@dataclass(frozen=True)
class Card:
    name: str
    layout: str


@dataclass(frozen=True)
class Network:
    module: nn.Module
    layouts: dict = field(
        default_factory=lambda: {"first": "bchw", "second": "bchw", "tokens": "btc", "head": "bc", "idle": "bc"}
    )

    def layer(self, name):
        return Card(name, self.layouts[name])

    def normalise(self, pixels):
        device = next(self.module.parameters()).device
        return torch.as_tensor(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class Directions:
    """A dictionary of fixed directions."""

    layer: str
    atoms: torch.Tensor
    representation: str = "distributed"
    method: str = "pca"

    @property
    def size(self):
        return len(self.atoms)

    @property
    def sha256(self):
        return hashlib.sha256(self.atoms.numpy().tobytes()).hexdigest()

    def encode(self, rows):
        return rows @ self.atoms.T.to(rows.device)

    def decode(self, codes):
        return codes @ self.atoms


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return Network(Small().eval().requires_grad_(False))


@pytest.fixture(scope="module")
def pixels():
    found = np.random.default_rng(4).integers(0, 256, (N, 12, 12, 3), dtype=np.uint8)
    found[70:] = found[10:30]  # equal images, so that ties are met
    return found


@pytest.fixture(scope="module")
def bases():
    atoms = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(5))
    return {
        "first": [NeuronBasis("first", 5)],
        "second": [NeuronBasis("second", 6), Directions("second", atoms[0]), Directions("second", atoms[1])],
        "tokens": [NeuronBasis("tokens", 6)],
        "head": [NeuronBasis("head", 4)],
    }


def maps_of(network, pixels):
    """Return each layer's map (images x positions x channels), by running its parts by hand."""
    m = network.module
    with torch.inference_mode():
        first = m.first(network.normalise(pixels))
        second = m.second(first.relu())
        tokens = m.tokens(second.relu())[0]
        head = m.head(tokens.mean(1))
    found = {"first": first.flatten(2).transpose(1, 2), "second": second.flatten(2).transpose(1, 2)}
    return found | {"tokens": tokens, "head": head[:, None]}


def shards_of(network, bases, pixels, size, **options):
    return [scan_shard(network, bases, pixels, i, min(i + size, N), **options) for i in range(0, N, size)]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_scan_is_what_sorting_all_maps_gives(network, bases, pixels, pooling):
    scan = reduce_shards(shards_of(network, bases, pixels, N, pooling=pooling, top=7, batch=16, keep_pooled=True))
    maps = maps_of(network, pixels)
    assert len(scan.found) == 6
    for layer, those in bases.items():
        for basis in those:
            found = scan.found[layer, name_of(basis)]
            codes = basis.encode(maps[layer])
            pooled = (codes.mean(1) if pooling == "mean" else codes.amax(1)).numpy()
            [kept] = scan.pooled((layer, name_of(basis)))
            np.testing.assert_allclose(kept, pooled, atol=2e-6)
            order = np.argsort(-kept, axis=0, kind="stable")[:7]
            np.testing.assert_array_equal(found.top.images, order)
            np.testing.assert_array_equal(found.bottom.images, np.argsort(kept, axis=0, kind="stable")[:7])
            np.testing.assert_array_equal(found.top.scores, np.take_along_axis(kept, order, 0))
            strongest = codes.numpy().max(1)
            for rank in range(7):
                for unit in range(pooled.shape[1]):
                    image = found.top.images[rank, unit]
                    value = codes[image, found.top.positions[rank, unit], unit]
                    assert abs(float(value) - strongest[image, unit]) < 1e-5
            np.testing.assert_allclose(found.moments.mean, pooled.mean(0), atol=1e-6)
            np.testing.assert_allclose(found.moments.sd, pooled.std(0), atol=1e-6)


def test_shards_and_the_batches_layer_or_basis_beside_it_change_nothing(network, bases, pixels):
    options = {"top": 9, "batch": 16, "sample": 2.5, "keep_pooled": True}
    whole = reduce_shards(shards_of(network, bases, pixels, N, **options))
    parts = reduce_shards(shards_of(network, bases, pixels, 32, **options))
    alone = reduce_shards(shards_of(network, {"second": bases["second"][1:2]}, pixels, 64, **options))
    for key, found in parts.found.items():
        for other in (whole.found, alone.found if key in alone.found else whole.found):
            for end in ENDS:
                for name in ("scores", "images", "positions"):
                    np.testing.assert_array_equal(
                        getattr(getattr(found, end), name), getattr(getattr(other[key], end), name)
                    )
        np.testing.assert_array_equal(found.moments.positive, whole.found[key].moments.positive)
        np.testing.assert_allclose(found.moments.total, whole.found[key].moments.total, rtol=1e-12)
    for layer in bases:
        for name in ("values", "images", "positions"):
            np.testing.assert_array_equal(getattr(parts.rows(layer), name), getattr(whole.rows(layer), name))
    np.testing.assert_array_equal(alone.rows("second").values, whole.rows("second").values)


def test_a_repeated_shard_has_equal_bytes_and_one_from_a_file_is_the_same(network, bases, pixels, tmp_path):
    options = {"top": 5, "batch": 8, "sample": 1, "keep_pooled": True, "pooling": "max"}
    first, again = (scan_shard(network, bases, pixels, 16, 40, **options) for _ in range(2))
    assert {name: hash_arrays(value) for name, value in first.items()} == {
        name: hash_arrays(value) for name, value in again.items()
    }
    write_arrays(tmp_path / "shard.safetensors", first)
    read = reduce_shards([ShardFile(tmp_path / "shard.safetensors")])
    scan = reduce_shards([first])
    assert (read.start, read.stop, read.top, read.pooling, read.precision) == (16, 40, 5, "max", "fp32")
    for key in scan.found:
        np.testing.assert_array_equal(read.found[key].top.images, scan.found[key].top.images)
        np.testing.assert_array_equal(read.window(key, 0.25, 0.5)[0], scan.window(key, 0.25, 0.5)[0])
    np.testing.assert_array_equal(read.rows("tokens").values, scan.rows("tokens").values)
    with pytest.raises(RunError, match="cannot be read"):
        ShardFile(tmp_path / "none.safetensors")
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "shard.safetensors").read_bytes()[:-9])
    with pytest.raises(RunError, match="cannot be read"):
        ShardFile(tmp_path / "torn.safetensors")


def test_shards_that_do_not_follow_one_another_are_refused(network, bases, pixels):
    first, second, third = shards_of(network, {"head": bases["head"]}, pixels, 30, batch=30, top=3)
    with pytest.raises(RunError, match="shard 1 begins with image 60; after the one before it must be 30"):
        reduce_shards([first, third])
    with pytest.raises(RunError, match="shard 1 was made with other settings"):
        reduce_shards([first, scan_shard(network, {"head": bases["head"]}, pixels, 30, 60, top=4)])
    with pytest.raises(RunError, match="no shard"):
        reduce_shards([])
    scan = reduce_shards([first, second, third])
    with pytest.raises(RunError, match="no rows of layer 'head' were sampled"):
        scan.rows("head")
    with pytest.raises(RunError, match=r"activations of layer 'head' .neuron. were not kept"):
        next(scan.pooled(("head", "neuron")))


def test_rows_are_those_of_the_maps(network, bases, pixels):
    scan = reduce_shards(shards_of(network, bases, pixels, 40, batch=20, sample=3))
    for layer, maps in maps_of(network, pixels).items():
        rows = scan.rows(layer)
        np.testing.assert_allclose(rows.values, maps[rows.images, rows.positions], atol=1e-5)
        assert len(rows.values) == N * min(3, maps.shape[1])
    only = reduce_shards(shards_of(network, {"first": []}, pixels, 40, batch=20, sample=3))
    np.testing.assert_array_equal(only.rows("first").values, scan.rows("first").values)
    assert not only.found


@pytest.mark.parametrize("size", [1, 7, 120, 10_000])
def test_tiles_are_the_rows_cut_anew_at_each_pass(network, bases, pixels, size):
    scan = reduce_shards(shards_of(network, bases, pixels, 40, batch=20, sample=3))
    rows = scan.rows("first").values
    tiles = RowTiles(scan, "first", size, torch.device("cpu"))
    for _ in range(2):
        found = list(tiles)
        assert [len(tile) for tile in found] == [len(rows[i : i + size]) for i in range(0, len(rows), size)]
        np.testing.assert_array_equal(torch.cat(found).numpy(), rows)
    with pytest.raises(RunError, match="no rows of layer 'first' were sampled"):
        next(iter(RowTiles(reduce_shards(shards_of(network, bases, pixels, 40)), "first", 5, torch.device("cpu"))))


def test_positions_are_drawn_uniformly_without_replacement_and_by_number_alone():
    images, position = draw_positions(np.arange(4000), 49, 2.25, 7, "layer1")
    assert abs(len(images) - 9000) < 150
    assert len(set(zip(images, position, strict=True))) == len(images)
    counts = np.bincount(position, minlength=49)
    assert ((counts - len(images) / 49) ** 2).sum() / (len(images) / 49) < 95  # chi-squared, 48 degrees: 1 in 10,000
    assert set(np.bincount(images)) == {2, 3}
    some, where = draw_positions(np.arange(1000, 1100), 49, 2.25, 7, "layer1")
    inside = (images >= 1000) & (images < 1100)
    np.testing.assert_array_equal(some + 1000, images[inside])
    np.testing.assert_array_equal(where, position[inside])
    for other in (
        draw_positions(np.arange(4000), 49, 2.25, 8, "layer1"),
        draw_positions(np.arange(4000), 49, 2.25, 7, "b"),
    ):
        assert abs(np.isin(images * 49 + position, other[0] * 49 + other[1]).mean() - 2.25 / 49) < 0.02
    sparse, _ = draw_positions(np.arange(100_000), 64, 0.02, 7, "layer1")
    assert abs(len(sparse) - 2000) < 200
    assert len(draw_positions(np.arange(5), 4, 9, 1, "a")[0]) == 20
    assert len(draw_positions(np.arange(5), 4, 0, 1, "a")[0]) == 0


def hooks_of(module):
    return [name for name, part in module.named_modules() if part._forward_hooks]


def test_no_hook_survives_an_error_and_the_first_layer_that_went_wrong_is_named(bases, pixels):
    network = Network(Small().eval().requires_grad_(False))
    network.module.second.weight[2] = torch.nan
    order = {name: bases[name] for name in ("head", "tokens", "second", "first")}
    with pytest.raises(InputError, match=r"^unit 2 of layer 'second' \(neuron\) has the activation nan in image 8;"):
        scan_shard(network, order, pixels, 8, 20)
    assert hooks_of(network.module) == []

    class Broken(Directions):
        def encode(self, rows):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        scan_shard(network, {"first": [Broken("first", torch.ones(1, 5))]}, pixels, 0, 4)
    assert hooks_of(network.module) == []


def test_what_cannot_be_read_is_refused(network, bases, pixels):
    with pytest.raises(NetworkError, match="layer 'idle' is not run"):
        scan_shard(network, {"idle": [NeuronBasis("idle", 2)]}, pixels, 0, 4)
    with pytest.raises(InputError, match="images 4 to 400 were asked for; of 90 images"):
        scan_shard(network, bases, pixels, 4, 400)

    class Windows(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 3, 6, 6)

    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.windows, self.scale = Windows(), nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.windows(x).mean((1, 2, 3))[:, None]

    with pytest.raises(NetworkError, match=r"layer 'windows' gives an output of shape \(16, 3, 6, 6\) for 4 images"):
        scan_shard(
            Network(Split(), {"windows": "bchw"}), {"windows": [NeuronBasis("windows", 3)]}, pixels, 0, 4, batch=4
        )


def test_a_window_holds_the_ranks_of_its_shares(network, bases, pixels):
    scan = reduce_shards(shards_of(network, bases, pixels, 40, batch=20, keep_pooled=True))
    key = ("second", "neuron")
    pooled = np.concatenate(list(scan.pooled(key)))
    images, scores = scan.window(key, 0.1, 0.3, np.array([4, 1]))
    np.testing.assert_array_equal(images, np.argsort(-pooled[:, [4, 1]], axis=0, kind="stable")[9:27])
    np.testing.assert_array_equal(scores, np.take_along_axis(pooled[:, [4, 1]], images, 0))


@pytest.fixture(scope="module")
def exact(network, bases, pixels):
    return reduce_shards(shards_of(network, bases, pixels, N, top=4, batch=16))


def assert_same_ends(found, exact, units=slice(None)):
    """Allow what another place in a batch may change: the last digit, and so the order of equal images."""
    for end in ENDS:
        ours, theirs = getattr(found, end), getattr(exact, end)
        np.testing.assert_allclose(ours.scores[:, units], theirs.scores[:, units], rtol=1e-6, atol=1e-6)
        first, second = (np.where(part.images >= 70, part.images - 60, part.images) for part in (ours, theirs))
        np.testing.assert_array_equal(first[:, units], second[:, units])


def test_rescoring_a_bf16_scan_gives_the_fp32_extremes(network, bases, pixels, exact):
    rough = reduce_shards(shards_of(network, bases, pixels, 40, top=4, batch=16, precision="bf16"))
    assert rough.found["first", "neuron"].top.images.shape == (4 * activations.CANDIDATES, 5)
    assert any((rough.found[key].top.scores[:4] != found.top.scores).any() for key, found in exact.found.items())
    again = rescore(network, bases, pixels, rough, batch=16)
    for key, found in exact.found.items():
        assert_same_ends(again.found[key], found)
        assert again.found[key].certain.mean() > 0.5
    assert rescore(network, bases, pixels, exact) is exact
    with pytest.raises(InputError, match="a window of ranks needs the exact order"):
        again.window(("first", "neuron"), 0.1, 0.2)


def test_units_asked_for_do_not_depend_on_the_others(network, bases, pixels, exact):
    rough = reduce_shards(shards_of(network, bases, pixels, 40, top=4, batch=16, precision="bf16"))
    key = ("second", name_of(bases["second"][1]))
    some = rescore(network, bases, pixels, rough, batch=16, units={key: np.array([3, 1])})
    assert_same_ends(some.found[key], exact.found[key], [1, 3])
    assert (some.found[key].top.images[:, [0, 2]] == -1).all()
    assert np.isnan(some.found[key].top.scores[:, [0, 2]]).all()
    assert some.found["first", "neuron"] is rough.found["first", "neuron"]
    with pytest.raises(InputError, match=r"layer 'none' .neuron. is not in the scan"):
        rescore(network, bases, pixels, rough, units={("none", "neuron"): np.array([0])})


def test_rescoring_copes_with_fewer_images_than_are_kept(network, bases, pixels):
    options = {"top": 9, "batch": 16}
    rough = reduce_shards([scan_shard(network, bases, pixels, 0, 5, precision="bf16", **options)])
    exact = reduce_shards([scan_shard(network, bases, pixels, 0, 5, **options)])
    again = rescore(network, bases, pixels, rough, batch=16)
    for key, found in exact.found.items():
        assert_same_ends(again.found[key], found)
        assert again.found[key].certain.all()


def test_candidates_that_may_miss_an_image_are_called_uncertain(network, bases, pixels, exact, monkeypatch):
    monkeypatch.setattr(activations, "CANDIDATES", 1)
    rough = reduce_shards(shards_of(network, bases, pixels, N, top=4, batch=16, precision="bf16"))
    again = rescore(network, bases, pixels, rough, batch=16)
    for key, found in exact.found.items():
        wrong = (again.found[key].top.scores < found.top.scores - 1e-6).any(0)
        assert not (again.found[key].certain & wrong).any()
    assert not all(found.certain.all() for found in again.found.values())


def scan_compiled(network, bases, pixels, **options):
    warned = []
    options = {"top": 4, "batch": 16, "precision": "bf16", "sample": 0.5, "keep_pooled": True} | options
    arrays = [
        scan_shard(network, bases, pixels, 0, 40, compiled=compiled, warn=warned.append, **options)
        for compiled in (False, True)
    ]
    return *arrays, warned


@pytest.mark.parametrize("options", [{"pooling": "mean"}, {"pooling": "max", "sample": 0.0}], ids=["mean", "max"])
def test_a_compiled_network_gives_the_same_scan(network, bases, pixels, monkeypatch, options):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(compilation, "BACKEND", backend)
    torch._dynamo.reset()
    plain, compiled, warned = scan_compiled(network, bases, pixels, **options)
    assert (len(graphs), warned) == (1, [])  # hooks do not break the graph, and a second batch needs no other
    assert list(plain) == list(compiled)
    for name, values in plain.items():
        np.testing.assert_array_equal(values, compiled[name], err_msg=name)


def test_a_network_that_cannot_be_compiled_is_run_as_it_is_and_it_is_said_once(network, bases, pixels, monkeypatch):
    def fail(graph, inputs):
        raise RuntimeError("no compiler here.")

    def err(graph, inputs):
        return lambda *given: [found * 2 for found in graph.forward(*given)]

    for backend, reason in ((fail, "no compiler here"), (err, r"\(its results would differ\)")):
        monkeypatch.setattr(compilation, "BACKEND", backend)
        activations._COMPILED.clear()
        torch._dynamo.reset()
        plain, compiled, (warned,) = scan_compiled(network, bases, pixels)
        assert re.search(reason, warned)
        for name, values in plain.items():
            np.testing.assert_array_equal(values, compiled[name], err_msg=name)
        assert scan_compiled(network, bases, pixels)[2] == []


def test_what_was_compiled_goes_with_the_network(bases, pixels, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    activations._COMPILED.clear()
    network = Network(Small().eval().requires_grad_(False))
    scan_compiled(network, bases, pixels)
    assert len(activations._COMPILED) == 1
    assert not network.module.first._forward_hooks
    del network
    gc.collect()
    assert len(activations._COMPILED) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_network_compiled_on_a_device_finds_the_same_images(network, bases, pixels):
    scans = []
    for options in ({"device": "cpu"}, {"device": "cuda", "compiled": True}):
        scan = reduce_shards(
            [scan_shard(network, bases, pixels, 0, N, top=4, batch=16, precision="bf16", warn=pytest.fail, **options)]
        )
        scans.append(rescore(network, bases, pixels, scan, batch=16, device="cpu"))
    for key, found in scans[0].found.items():
        for end in ENDS:
            np.testing.assert_array_equal(getattr(found, end).images, getattr(scans[1].found[key], end).images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cuda_and_cpu_find_the_same_images(bases, pixels, precision):
    torch.manual_seed(3)
    scans = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(3)
        network = Network(Small().eval().requires_grad_(False))
        options = {"top": 4, "batch": 16, "precision": precision, "device": device}
        scan = reduce_shards([scan_shard(network, bases, pixels, 0, N, **options)])
        scans.append(rescore(network, bases, pixels, scan, batch=16, device=device))
    for key, found in scans[0].found.items():
        for end in ENDS:
            ours, theirs = getattr(found, end), getattr(scans[1].found[key], end)
            np.testing.assert_array_equal(ours.images, theirs.images)
            np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-4, atol=1e-5)
