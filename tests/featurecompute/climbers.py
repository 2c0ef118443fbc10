"""A small network with a layer of every layout, images, and short ways to ask for synthesised ones."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from featurecompute.activations import Reader
from featurecompute.bases import NeuronBasis
from featurecompute.cards import Preprocessing, describe_network
from featurecompute.dictionary import Dictionary
from featurecompute.spectrum import magnitude_spectrum
from featurecompute.study import VisualizeTable
from featurecompute.visualize import Wanted, canvas_size, synthesise

SIDE = 16
QUICK = {"steps": 4, "crops": 2, "size": 20, "images": 2}


class Tokens(nn.Module):
    """A layer that gives images x tokens x channels first in a tuple."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def forward(self, x):
        return self.mix(x.flatten(2).transpose(1, 2)), None


class Last(nn.Module):
    """Channels last."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class Small(nn.Module):
    """A layer of every layout; batch norm, and a ReLU in place after a layer."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.last = Last()
        self.tokens = Tokens()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.second(self.relu(self.norm(self.first(x)))).relu_()
        x = self.last(x).permute(0, 3, 1, 2)
        return self.head(self.tokens(x)[0].mean(1))


LAYERS = ("first", "relu", "second", "last", "tokens", "head")


def describe(module, layers=(), side=SIDE, **options):
    card = Preprocessing(side, side, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return describe_network(module, card, id="small", source="test", layers=layers, **options)


def images(count=40, side=SIDE, seed=0):
    """Smooth coloured images."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.random((count, 3, side // 4, side // 4)))
    fine = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    return (fine * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


PIXELS = images()


def make(network, wanted, together=None, progress=lambda done, all_: None, **settings):
    table = VisualizeTable(**{**QUICK, **settings})
    spectrum = magnitude_spectrum(PIXELS, canvas_size(network, table)) if table.method == "maco" else None
    return synthesise(network, wanted, spectrum, table, together=together, progress=progress)


def neuron(layer, channel, width=6, **options):
    return Wanted(f"small/{layer}:{channel}", NeuronBasis(layer, width), channel, **options)


def directions(layer, atoms, method="nmf", **options):
    atoms = nn.functional.normalize(torch.tensor(atoms, dtype=torch.float32))
    return Dictionary(layer, method, atoms, parameters={"penalty": 0.01}, **options)


def read(network, basis, pixels):
    """Activations of a basis by the pass over natural images."""
    found = Reader(network, {basis.layer: [basis]}, "mean", 8, "fp32", None).read(pixels, np.arange(len(pixels)))
    return next(iter(found.values()))[0].numpy()


def several():
    atoms = directions("relu", np.eye(6)[:2] + np.eye(6)[2:4])
    return [
        neuron("relu", 1),
        Wanted("small/relu:nmf:1", atoms, 1, number=1),
        neuron("relu", 1, number=1),
        neuron("relu", 4),
        Wanted("small/relu:nmf:0", atoms, 0),
    ]


def grating(side, turn, waves, colour):
    """A wave across a square, with no mean: waves along the direction `turn`, in colours."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    wave = np.cos(2 * np.pi * waves * (x * math.cos(turn) + y * math.sin(turn)))
    return (wave - wave.mean())[None] * np.array(colour)[:, None, None]


def hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())
