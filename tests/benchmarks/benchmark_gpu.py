"""On a CUDA device: extraction beside the forward alone, NMF and nulling beside the processor, in one call.

In: nothing.  Out: gpu.csv beside this file, and the same as text; without a device it says so and writes nothing.

    python tests/benchmarks/benchmark_gpu.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from featurecompute.activations import scan_shard
from featurecompute.bases import NeuronBasis
from featurecompute.cards import Network, Preprocessing, describe_network
from featurecompute.contributions import measure
from featurecompute.folding import optimised
from featurecompute.libraries import library
from featurecompute.nmf import factorise
from featurecompute.replay import split

LAYERS = ("layer1", "layer2", "layer3", "layer4")
IMAGES, BATCH, ROUNDS = 1024, 128, 5


def resnet() -> Network:
    """Return a ResNet50 with random weights, looked into at its four stages."""
    torch.manual_seed(1)
    module: nn.Module = library("torchvision").models.resnet50(weights=None)
    return describe_network(module, Preprocessing(), id="resnet50", source="torchvision", layers=LAYERS)


def seconds(work: Callable[[], Any]) -> float:
    """Return the median seconds of a piece of work, the device waited for; the first round warms up."""
    taken = []
    for _ in range(ROUNDS + 1):
        torch.cuda.synchronize()
        since = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - since)
    return statistics.median(taken[1:])


def time_extraction(network: Network) -> list[dict[str, Any]]:
    """Time the pass over images beside forwards that keep nothing."""
    pixels = np.random.default_rng(1).integers(0, 256, (IMAGES, 224, 224, 3), dtype=np.uint8)
    network.module.cuda()
    fast = optimised(network)
    fast.module.cuda()
    bases = {layer.name: [NeuronBasis(layer.name, layer.channels)] for layer in network.layers}

    @torch.inference_mode()
    def forward(of: Network, dtype: torch.dtype | None) -> None:
        with torch.autocast("cuda", dtype or torch.bfloat16, enabled=dtype is not None):
            for start in range(0, IMAGES, BATCH):
                of.module(of.normalise(pixels[start : start + BATCH]))

    def scan(of: Network, precision: Any) -> None:
        scan_shard(of, bases, pixels, 0, IMAGES, batch=BATCH, precision=precision, device="cuda")

    plain = seconds(lambda: forward(network, None))
    ways = {
        "forward, fp32": plain,
        "pass, fp32": seconds(lambda: scan(network, "fp32")),
        "pass, fp32, folded": seconds(lambda: scan(fast, "fp32")),
        "forward, bf16, folded": seconds(lambda: forward(fast, torch.bfloat16)),
        "pass, bf16, folded": seconds(lambda: scan(fast, "bf16")),
    }
    return [
        {"part": "extraction", "case": name, "seconds": taken, "images_per_s": IMAGES / taken, "ratio": plain / taken}
        for name, taken in ways.items()
    ]


def time_nmf() -> list[dict[str, Any]]:
    """Time NMF of 20,000 x 512 rows, rank 40, on the device and on the processor."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.rand(20_000, 40, generator=generator) * (torch.rand(20_000, 40, generator=generator) < 0.2)
    rows = codes @ torch.rand(40, 512, generator=generator) + 0.01 * torch.rand(20_000, 512, generator=generator)
    there = rows.cuda()
    device = seconds(lambda: factorise(there, 40, seed=1))
    since = time.perf_counter()
    factorise(rows, 40, seed=1)
    processor = time.perf_counter() - since
    return [
        {"part": "nmf", "case": "processor", "seconds": processor, "ratio": 1.0},
        {"part": "nmf", "case": "device", "seconds": device, "ratio": processor / device},
    ]


def time_nulling(network: Network) -> list[dict[str, Any]]:
    """Time nulling of 64 channels of layer3 in 8 images, on the device and on the processor, and compare them."""
    pixels = np.random.default_rng(2).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    layer = network.layer("layer3")
    found: dict[str, Tensor] = {}

    def null(device: str) -> None:
        network.module.to(device)
        suffix = split(network.module, layer.name, layer.layout, network.normalise(pixels))
        names = {channel: str(channel) for channel in range(64)}
        basis = NeuronBasis(layer.name, layer.channels)
        table = measure(suffix, basis, names, images=[str(i) for i in range(8)], methods=("subtract",), batch=64)
        found[device] = torch.from_numpy(table["drop"].to_numpy())

    device = seconds(lambda: null("cuda"))
    since = time.perf_counter()
    null("cpu")
    processor = time.perf_counter() - since
    largest = float((found["cuda"] - found["cpu"]).abs().max())
    return [
        {"part": "nulling", "case": "processor", "seconds": processor, "ratio": 1.0},
        {
            "part": "nulling",
            "case": "device",
            "seconds": device,
            "ratio": processor / device,
            "largest_difference": largest,
        },
    ]


def main() -> int:
    """Measure all, print and write."""
    if not torch.cuda.is_available():
        print("torch sees no CUDA device here; nothing was measured.")
        return 0
    network = resnet()
    rows = [*time_extraction(network), *time_nmf(), *time_nulling(network)]
    about = SimpleNamespace(device=torch.cuda.get_device_name(), torch=torch.__version__)
    table = pd.DataFrame(rows).assign(**vars(about)).round(5)
    table.to_csv(Path(__file__).with_name("gpu.csv"), index=False)
    print(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
