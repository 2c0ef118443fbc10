"""A small real network with a skip connection, images of a few patterns, and a study of both, for tests of the job."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from featurecompute.files import read_json

NETWORK = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 2, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, images):
        return torch.relu(self.conv(images) + self.skip(images))


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Block(3, 8), Block(8, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, images):
        return self.head(self.second(self.first(images)).mean((2, 3)))


def build():
    torch.manual_seed(4)
    return Tiny().eval(), {"size": 24, "resize": 24, "mean": (0.5, 0.5, 0.5), "sd": (0.25, 0.25, 0.25)}
"""
STUDY = """
[network]
source = "tiny:build"
untrained = true
layers = ["first", "second"]
[images]
source = "folder"
path = "images"
cache = "cache"
{images}
[dictionary]
rank = 6
samples = 600
stability_seeds = 1
{dictionary}
[features]
neurons = 8
top = 12
batch = 8
shard = 16
{features}
[contributions]
images = 20
curves = 10
{contributions}
"""


def build() -> nn.Module:
    """Return the network of the study."""
    names: dict = {}
    exec(NETWORK, names)
    return names["build"]()[0]


def write_study(folder, count=60, **tables):
    """Write network, images and study into a folder, and return the study's path; `tables` adds lines to a table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.py").write_text(NETWORK)
    random = np.random.default_rng(5)
    for number in range(count):
        place = folder / "images" / f"class{number % 5}" / f"{number:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 80, (24, 24, 3))
        row, column = random.integers(0, 16, 2)
        pixels[row : row + 8, column : column + 8, number % 3] = 150 + 20 * (number % 5)
        Image.fromarray(pixels.astype(np.uint8)).save(place)
    lines = {name: tables.get(name, "") for name in ("images", "dictionary", "features", "contributions")}
    (folder / "study.toml").write_text(STUDY.format(**lines))
    return folder / "study.toml"


def read_pixels(folder):
    """Return the images of a study as the network sees them, in their order, and their ids."""
    paths = sorted((folder / "images").rglob("*.png"), key=lambda path: path.relative_to(folder / "images").as_posix())
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    values = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    return values, [path.relative_to(folder / "images").as_posix() for path in paths]


def contents(path):
    """Return the bytes of everything that must be the same in every run of a study: all but seconds and the command."""
    kept = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_file() and name not in ("timings.json", "run.json") and not file.name.startswith("."):
            kept[name] = file.read_bytes()
    record = read_json(path / "run.json")
    return kept | {"run.json": {key: value for key, value in record.items() if key != "command"}}
