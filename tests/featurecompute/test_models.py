"""Networks open from local files, with weights that the tests save themselves; what does not fit is named."""

from __future__ import annotations

import json
import os
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from featurecompute.errors import NetworkError  # noqa: E402
from featurecompute.files import hash_file  # noqa: E402
from featurecompute.models import Network, open_network  # noqa: E402
from featurecompute.study import NetworkTable  # noqa: E402

Require = Callable[[str], ModuleType]

OWN = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(4, 2))

def with_card():
    return net(), {"size": 16, "mean": [0, 0, 0], "sd": [1, 1, 1]}

def fails():
    raise ValueError("no such file")

def text():
    return "net"

def strange():
    return net(), {"sise": 16}

number = 3
"""


def opened(base: Path, source: str, name: str = "", **keys: Any) -> Network:
    """Open a network with small images."""
    return open_network(NetworkTable(source=source, name=name, **({"size": 32} | keys)), base)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder with a study's own network."""
    (tmp_path / "own_net.py").write_text(OWN)
    return tmp_path


def saved(own: Path) -> dict[str, Any]:
    """Return weights that fit the study's own network."""
    return {name: value + 1 for name, value in opened(own, "own_net:net").module.state_dict().items()}


def test_own_function_gives_a_network(own: Path) -> None:
    """Seeded, with or without a card of its own, which the study overrides."""
    first, again = (opened(own, "own_net:net", layers=("1",)) for _ in range(2))
    other = opened(own, "own_net:net", seed=2)
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert (first.id, first.source, first.classes, first.preprocessing.size) == ("own_net:net",) * 2 + (2, 32)
    card = opened(own, "own_net:with_card", size=None, sd=(2, 2, 2), interpolation="bicubic").preprocessing
    assert (card.size, card.mean, card.sd, card.interpolation) == (16, (0, 0, 0), (2, 2, 2), "bicubic")
    state = torch.get_rng_state()
    opened(own, "own_net:net")
    assert torch.equal(state, torch.get_rng_state())


def test_own_function_is_read_from_its_own_study(own: Path) -> None:
    """A second study's module of the same name is another."""
    opened(own, "own_net:net")
    second = own / "second"
    second.mkdir()
    (second / "own_net.py").write_text(OWN.replace("nn.Linear(4, 2)", "nn.Linear(4, 7)"))
    assert opened(second, "own_net:net").classes == 7


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("own_net:nett", "module 'own_net' has no 'nett' .did you mean 'net'"),
        ("other_net:net", "no module 'other_net'"),
        ("own_net:fails", "'own_net:fails' failed: ValueError: no such file"),
        ("own_net:text", "gives a str; it must give a torch module"),
        ("own_net:number", "is a int; it must be a function"),
        ("own_net:strange", "preprocessing has no 'sise'"),
        ("own net:", "write module:function"),
        ("broken:net", "module 'broken' cannot be imported: SyntaxError"),
        ("torchvison", r"source is 'torchvison' \(did you mean 'torchvision'"),
        ("scenes", "trained by the job"),
    ],
)
def test_source_that_cannot_be_used_is_one_sentence(own: Path, source: str, said: str) -> None:
    """Whatever fails in code that is not ours."""
    (own / "broken.py").write_text("def net(:\n")
    with pytest.raises(NetworkError, match=said) as caught:
        opened(own, source)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_read_as_people_save_them(own: Path, nested: str | None, prefix: str) -> None:
    """Nested or not, from a wrapper or not, by torch or as safetensors; the hash is the file's."""
    weights = saved(own)
    given: Any = {prefix + name: value for name, value in weights.items()}
    torch.save({nested: given, "epoch": 3} if nested else given, own / "weights.pth")
    save_file(given, own / "weights.safetensors")
    for file in ("weights.pth", "weights.safetensors"):
        network = opened(own, "own_net:net", weights=file)
        assert network.weights_sha256 == hash_file(own / file)
        for name, value in network.module.state_dict().items():
            assert torch.equal(value, weights[name])


def test_weights_that_do_not_fit_are_named(own: Path) -> None:
    """Missing, left over, of another shape, not finite, no tensors, not there."""
    good = saved(own)
    bad = good | {"0.weight": good["0.weight"].clone()}
    bad["0.weight"][0, 0, 0, 0] = float("nan")
    cases: list[tuple[Any, str]] = [
        ({k: v for k, v in good.items() if k != "0.bias"}, "1 tensor missing: 0.bias"),
        (good | {f"x{i}": good["0.bias"] for i in range(5)}, "5 tensors not of this network: x0, x1, x2 and 2 more"),
        (good | {"0.weight": torch.zeros(4, 3, 5, 5)}, r"0.weight \(4 x 3 x 5 x 5 in the file, 4 x 3 x 3 x 3 in"),
        (bad, "weights.pt have NaN or infinity in 0.weight"),
        (good | {"epoch": 3}, "hold more than tensors: epoch"),
        ([1, 2], "hold a list; they must be a state dict"),
        ({}, "must be a state dict"),
    ]
    for state, said in cases:
        torch.save(state, own / "weights.pt")
        with pytest.raises(NetworkError, match=said):
            opened(own, "own_net:net", weights="weights.pt")
    for file, said in [("none.pt", "no file of weights"), ("w.h5", "are no .safetensors, .pt"), (".", "are no")]:
        with pytest.raises(NetworkError, match=said):
            opened(own, "own_net:net", weights=file)
    for file in ("damaged.pt", "damaged.safetensors"):
        (own / file).write_bytes(b"not weights at all")
        with pytest.raises(NetworkError, match=r"damaged.* (cannot be read|damaged)"):
            opened(own, "own_net:net", weights=file)
    torch.save(good, own / "cut.pt")
    (own / "cut.pt").write_bytes((own / "cut.pt").read_bytes()[:-300])
    with pytest.raises(NetworkError, match=r"cut.pt cannot be read"):
        opened(own, "own_net:net", weights="cut.pt")


class Dangerous:
    """An object whose unpickling would make a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_pickled_code_is_refused_and_not_run(own: Path, way: str) -> None:
    """A file of weights is no program."""
    state = {"weight": torch.zeros(2), "other": Dangerous(str(own / "made"))}
    if way == "torch":
        torch.save(state, own / "weights.pt")
    else:
        (own / "weights.pt").write_bytes(pickle.dumps({"other": state["other"]}))
    with pytest.raises(NetworkError, match=r"as that could run code, nothing was read") as caught:
        opened(own, "own_net:net", weights="weights.pt")
    assert caught.value.exit_code == 2 and not (own / "made").exists()


def test_torchvision_network_opens_with_its_own_number_of_classes(tmp_path: Path, require: Require) -> None:
    """As many as the weights' head has; the card is that of the library's default weights."""
    models = require("torchvision").models
    torch.manual_seed(4)
    module = models.resnet18(weights=None, num_classes=7).eval()
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    network = opened(tmp_path, "torchvision", "resnet18", weights="weights.safetensors", size=64)
    assert (network.classes, network.head, network.id) == (7, "fc", "resnet18")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network.module(images), module(images))
    card = network.preprocessing
    assert (card.size, card.resize, card.interpolation, card.mean[0]) == (64, 73, "bilinear", 0.485)
    with pytest.raises(NetworkError, match=r"no model 'resnet19' \(did you mean 'resnet18'"):
        opened(tmp_path, "torchvision", "resnet19", untrained=True)
    with pytest.raises(NetworkError, match="name is missing"):
        opened(tmp_path, "torchvision", untrained=True)
    with pytest.raises(NetworkError, match="has no weights: give a file"):
        opened(tmp_path, "torchvision", "resnet18")
    with pytest.raises(NetworkError, match="both weights and untrained"):
        opened(tmp_path, "torchvision", "resnet18", untrained=True, weights="weights.safetensors")
    with pytest.raises(NetworkError, match=r"tensors? of another shape: .*conv"):
        opened(tmp_path, "torchvision", "resnet50", weights="weights.safetensors")


def test_torchvision_files_with_old_names_are_read(tmp_path: Path, require: Require) -> None:
    """DenseNet's own files say norm.1 where its modules say norm1; a size is passed on to networks that need it."""
    models = require("torchvision").models
    state = models.densenet121(weights=None, num_classes=3).state_dict()
    for key in ("norm", "conv"):
        state = {
            name.replace(f".{key}1.", f".{key}.1.").replace(f".{key}2.", f".{key}.2."): state[name] for name in state
        }
    torch.save({name: value for name, value in state.items() if "batches" not in name}, tmp_path / "dense.pth")
    assert opened(tmp_path, "torchvision", "densenet121", weights="dense.pth").classes == 3
    network = opened(tmp_path, "torchvision", "swin_t", untrained=True, size=64)
    assert {layer.layout for layer in network.layers} == {"bhwc"}


@pytest.mark.parametrize(
    ("name", "layout", "layer", "channels"),
    [
        ("vit_tiny_patch16_224", "btc", "blocks.11", 192),
        ("swin_tiny_patch4_window7_224", "bhwc", "layers.3", 768),
        ("convnext_atto", "bchw", "stages.3", 320),
        ("resnet18", "bchw", "layer4", 512),
    ],
)
def test_timm_networks(tmp_path: Path, require: Require, name: str, layout: str, layer: str, channels: int) -> None:
    """Layouts of four families, untrained weights from the seed alone, and the weights again from a file."""
    require("timm")
    network = opened(tmp_path, "timm", name, untrained=True, size=64)
    last = network.layers[-1]
    assert (last.name, last.layout, last.channels) == (layer, layout, channels)
    assert network.preprocessing.interpolation == "bicubic" and network.classes == 1000
    assert 0 < network.layers[0].depth < last.depth < 1
    save_file(network.module.state_dict(), tmp_path / "weights.safetensors")
    again = opened(tmp_path, "timm", name, weights="weights.safetensors", size=64)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network.module(images), again.module(images))
    assert opened(tmp_path, "timm", name, untrained=True, size=64, seed=1).weights_sha256 == network.weights_sha256


def test_timm_names(tmp_path: Path, require: Require) -> None:
    """A tag chooses the card; names that would fetch from elsewhere, or do not classify, are refused."""
    require("timm")
    card = opened(tmp_path, "timm", "resnet18.a1_in1k", untrained=True, size=None).preprocessing
    assert (card.size, card.resize) == (224, 235)
    for name, said in [
        ("resnet18.a1_in", r"no model .*did you mean 'resnet18.a1_in1k'"),
        ("hf-hub:timm/resnet18", "no model"),
        ("eva02_tiny_patch14_224", "does not classify"),
    ]:
        with pytest.raises(NetworkError, match=said):
            opened(tmp_path, "timm", name, untrained=True, size=None)


def test_huggingface_folders(tmp_path: Path, require: Require) -> None:
    """Weights of the folder, of another file, or none; the processor's file gives the card."""
    transformers = require("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    torch.manual_seed(0)
    module = transformers.ViTForImageClassification(config).eval()
    folder = tmp_path / "vit"
    module.save_pretrained(folder)
    network = opened(tmp_path, "huggingface", "vit", size=None)
    assert (network.id, network.classes, network.head) == ("vit", 5, "classifier")
    assert [layer.layout for layer in network.layers] == ["btc"] * 3
    assert network.layers[-1].shape == (17, 16)
    assert network.weights_sha256 == hash_file(folder / "model.safetensors")
    assert (network.preprocessing.size, network.preprocessing.resize) == (32, 32)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network.module(images).logits, module(images).logits)

    card = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
    card |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(card))
    torch.save(module.state_dict(), tmp_path / "other.pt")
    for file in ("model.safetensors", "other.pt"):
        path = folder / file if (folder / file).exists() else tmp_path / file
        again = opened(tmp_path, "huggingface", "vit", size=None, weights=str(path))
        assert again.weights_sha256 == hash_file(path)
        made = again.preprocessing
        assert (made.size, made.resize, made.interpolation, made.mean) == (32, 40, "bicubic", (0.5, 0.5, 0.5))

    (folder / "model.safetensors").unlink()
    with pytest.raises(NetworkError, match=r"has none of model\.safetensors"):
        opened(tmp_path, "huggingface", "vit")
    assert opened(tmp_path, "huggingface", "vit/config.json", untrained=True).classes == 5
    with pytest.raises(NetworkError, match="read from a local folder"):
        opened(tmp_path, "huggingface", "google/vit-base-patch16-224")
    (folder / "preprocessor_config.json").write_text('{"size": "large"}')
    with pytest.raises(NetworkError, match=r"preprocessor_config.json cannot be read"):
        opened(tmp_path, "huggingface", "vit", untrained=True)


def test_huggingface_convolutions(tmp_path: Path, require: Require) -> None:
    """A ResNet of transformers has its stages as layers; weights that lack a tensor are refused, not made up."""
    transformers = require("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16], depths=[1, 1, 1], layer_type="basic", num_labels=3
    )
    module = transformers.ResNetForImageClassification(config)
    module.save_pretrained(tmp_path / "res")
    network = opened(tmp_path, "huggingface", "res", size=64)
    assert [(layer.name, layer.layout) for layer in network.layers] == [
        (f"resnet.encoder.stages.{stage}", "bchw") for stage in range(3)
    ]
    assert not any(layer.signed for layer in network.layers)
    state = {name: value for name, value in module.state_dict().items() if not name.endswith("normalization.bias")}
    save_file(state, tmp_path / "res" / "model.safetensors", {"format": "pt"})
    with pytest.raises(NetworkError, match=r"do not fit: 9 tensors missing"):
        opened(tmp_path, "huggingface", "res", size=64)


def test_nothing_of_a_library_is_imported_before_it_is_needed() -> None:
    """Opening a study's own network takes torch alone."""
    import subprocess
    import sys

    code = textwrap.dedent(
        """
        import sys
        import featurecompute.models
        assert not {"torchvision", "timm", "transformers", "captum", "sklearn"} & set(sys.modules)
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)
