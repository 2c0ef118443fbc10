"""What the pass over images costs beside the network's own forward, and whether its memory stays flat.

Run as ``python tests/benchmarks/benchmark_activations.py``; it prints a table and writes activations.csv beside itself.
One thread; seconds are the process's CPU time, medians over interleaved repetitions of one run. Three parts:

- four stages of a ResNet50 of random weights (224 x 224, batch 8): the plain forward, the pass with its store in fp32
  (as the network is; folded and channels last) and bf16, and the usual way: hooks that keep maps, with gradients on;
- the store alone, fed 10,000 and 1,000,000 simulated images of 3,840 units, in fresh processes, for peak memory and
  time an image; beside it the way of concatenating and sorting with every batch;
- how many units' top 9 a bf16 scan alone changes, and how many it does after rescoring, in a small random network.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from featurecompute.activations import scan_shard
from featurecompute.bases import NeuronBasis
from featurecompute.extremes import Extremes
from featurecompute.scan import reduce_shards, rescore

OUT = Path(__file__).resolve().parent / "activations.csv"
STAGES = {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
UNITS, TOP, BATCH = 3840, 100, 8


@dataclass(frozen=True)
class Card:
    """A layer's card."""

    name: str
    layout: Any = "bchw"


@dataclass(frozen=True)
class Network:
    """A module, and pixels made its input."""

    module: nn.Module

    def layer(self, name: str) -> Card:
        """Return a layer's card."""
        return Card(name)

    def normalise(self, pixels: np.ndarray) -> Tensor:
        """Return pixels between about -2 and 2."""
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous() / 64 - 2


def resnet(fold: bool) -> nn.Module:
    """Return a ResNet50 of random weights; `fold`: batch norms folded into convolutions, channels last."""
    # Beside a torch of another build, torchvision's compiled operators may be missing; it asks for two when imported.
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.models import resnet50

    torch.manual_seed(1)
    found: nn.Module = resnet50(weights=None).eval()
    if not fold:
        return found
    for block in [part for part in found.modules() if hasattr(part, "conv1")]:
        for i in (1, 2, 3):
            if hasattr(block, f"conv{i}"):
                conv, norm = getattr(block, f"conv{i}"), getattr(block, f"bn{i}")
                setattr(block, f"conv{i}", fuse_conv_bn_eval(conv, norm))
                setattr(block, f"bn{i}", nn.Identity())
        if getattr(block, "downsample", None) is not None:
            block.downsample = nn.Sequential(fuse_conv_bn_eval(*block.downsample))
    return found.to(memory_format=torch.channels_last)


def ways(images: int) -> dict[str, Callable[[], object]]:
    """Return the ways of running images through the four stages."""
    pixels = np.random.default_rng(1).integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)
    bases = {layer: [NeuronBasis(layer, units)] for layer, units in STAGES.items()}
    plain, folded = Network(resnet(False)), Network(resnet(True))

    def forward() -> None:
        with torch.inference_mode():
            for i in range(0, images, BATCH):
                plain.module(plain.normalise(pixels[i : i + BATCH]))

    def scan(network: Network, precision: Any) -> Callable[[], object]:
        options: dict[str, Any] = {"top": TOP, "batch": BATCH, "precision": precision}
        return lambda: scan_shard(network, bases, pixels, 0, images, **options)

    def usual() -> None:
        kept: dict[str, list[Tensor]] = {layer: [] for layer in STAGES}
        hooks = [
            plain.module.get_submodule(layer).register_forward_hook(
                lambda _m, _i, out, layer=layer: kept[layer].append(out)
            )
            for layer in STAGES
        ]
        for i in range(0, images, BATCH):
            plain.module(plain.normalise(pixels[i : i + BATCH]))
        for hook in hooks:
            hook.remove()
        for maps in kept.values():
            torch.cat(maps).mean((2, 3)).detach().numpy()

    return {
        "plain forward": forward,
        "fp32 pass": scan(plain, "fp32"),
        "fp32 pass, folded": scan(folded, "fp32"),
        "bf16 pass, folded": scan(folded, "bf16"),
        "gradients on, maps kept": usual,
    }


def time_passes(images: int, repeats: int) -> list[dict[str, object]]:
    """Time the ways in turn; speed is relative to the plain forward, each repetition against its own."""
    seconds: dict[str, list[float]] = {}
    those = ways(images)
    for way in those.values():
        way()
    for _ in range(repeats):
        for name, way in those.items():
            begin = time.process_time()
            way()
            seconds.setdefault(name, []).append(time.process_time() - begin)
    base = seconds["plain forward"]
    return [
        {
            "part": "pass",
            "case": name,
            "images": images,
            "ms_per_image": round(1000 * median(found) / images, 3),
            "relative": round(median(b / s for b, s in zip(base, found, strict=True)), 2),
        }
        for name, found in seconds.items()
    ]


def feed_store(images: int, way: str) -> dict[str, object]:
    """Feed simulated activations to a store in batches of 256 and return peak memory and time an image."""
    generator = torch.Generator().manual_seed(1)
    store = Extremes(UNITS, TOP)
    scores = torch.empty(0, UNITS)
    numbers = torch.empty(0, UNITS, dtype=torch.int64)
    spent = 0.0
    for i in range(0, images, 256):
        size = min(256, images - i)
        batch = torch.randn(size, UNITS, generator=generator)
        index, places = torch.arange(i, i + size), torch.zeros(size, UNITS, dtype=torch.int32)
        begin = time.process_time()
        if way == "store":
            store.update(batch, index, places)
        else:
            scores = torch.cat([scores, batch])
            numbers = torch.cat([numbers, index[:, None].expand(-1, UNITS)])
            order = scores.argsort(0, descending=True)
            ends = torch.cat([order[:TOP], order[TOP:][-TOP:]])
            scores, numbers = scores.gather(0, ends), numbers.gather(0, ends)
        spent += time.process_time() - begin
    begin = time.process_time()
    if way == "store":
        store.arrays()
    spent += time.process_time() - begin
    return {
        "part": "store",
        "case": way,
        "images": images,
        "ms_per_image": round(1000 * spent / images, 4),
        "peak_mb": peak(),
    }


def peak() -> int:
    """Return this process's peak memory in MiB; ru_maxrss would count that of the process it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def fresh(images: int, way: str) -> dict[str, object]:
    """Return `feed_store` of a process of its own."""
    answer = subprocess.run(
        [sys.executable, __file__, "--store", way, "--images", str(images)], check=True, capture_output=True, text=True
    )
    found: dict[str, object] = json.loads(answer.stdout)
    return found


def small(seed: int) -> Network:
    """Return a small random network with two recorded layers of 64 and 128 channels."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        *(nn.Conv2d(3, 64, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)),
    )
    return Network(module.eval().requires_grad_(False))


def change_tops(images: int, top: int = 9) -> list[dict[str, object]]:
    """Count the units whose top images are others after a bf16 scan, without and with rescoring."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (images, 8, 8, 3), dtype=np.uint8)
    pixels = coarse.repeat(4, 1).repeat(4, 2)
    network = small(1)
    bases = {"1": [NeuronBasis("1", 64)], "3": [NeuronBasis("3", 128)], "5": [NeuronBasis("5", 128)]}
    rows = []
    for pooling in ("mean", "max"):
        options: dict[str, Any] = {"top": top, "pooling": pooling}
        exact, rough = (
            reduce_shards([scan_shard(network, bases, pixels, 0, images, precision=precision, **options)])
            for precision in ("fp32", "bf16")
        )
        again = rescore(network, bases, pixels, rough)
        for case, scan in (("bf16 alone", rough), ("bf16 rescored", again)):
            other = certain = units = 0
            for key, found in exact.found.items():
                theirs = scan.found[key].top.images[:top]
                live = ~found.moments.dead
                other += int((np.sort(theirs, 0) != np.sort(found.top.images, 0)).any(0)[live].sum())
                units += int(live.sum())
                flags = scan.found[key].certain
                certain += int(flags[live].sum()) if flags is not None else 0
            row = {"part": f"top {top}, {pooling}", "case": case, "images": images, "units": units, "changed": other}
            rows.append(row | {"certain": certain})
    return rows


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=32, help="images of a repetition")
    parser.add_argument("--store", choices=["store", "sort"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.store:
        print(json.dumps(feed_store(arguments.images, arguments.store)))
        return
    rows = time_passes(arguments.images, arguments.repeats)
    rows += [fresh(10_000, "store"), fresh(1_000_000, "store"), fresh(10_000, "sort")]
    rows += change_tops(8000)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        print("  ".join(f"{row.get(name, '')!s:>{24 if name == 'case' else 12}}" for name in columns))


if __name__ == "__main__":
    main()
