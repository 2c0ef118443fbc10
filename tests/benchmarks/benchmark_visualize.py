"""What a step of MACO costs beside the passes of the network that no method can do without.

In: nothing; the weights are random.  Out: visualize.csv beside this file, and the table on the console.
Knows no study. Run from the repository's root: ``python tests/benchmarks/benchmark_visualize.py``.

A ResNet50 on six crops of 224 pixels, its layer3; one thread, process CPU time, interleaved; the least a step can cost
is a forward to the layer and a backward to the crops. Horama 0.3.0 is not beside it: it needs torchvision's compiled
``roi_align``, which a torch for the CPU alone does not have, and downloads its spectrum.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

from featurecompute.bases import NeuronBasis
from featurecompute.cards import Network, Preprocessing, describe_network
from featurecompute.hooks import reach
from featurecompute.libraries import library
from featurecompute.spectrum import magnitude_spectrum
from featurecompute.study import VisualizeTable
from featurecompute.visualize import Wanted, synthesise

ROUNDS, STEPS, CROPS, LAYER, UNIT = 5, 3, 6, "layer3", 7
CANVASES = ((224, (0.9, 1.0)), (448, (0.9, 1.0)), (512, (0.5, 0.6)))


def network() -> Network:
    """Return torchvision's resnet50 with random weights."""
    torch.manual_seed(0)
    module = library("torchvision").models.resnet50(weights=None)
    return describe_network(module, Preprocessing(), id="resnet50", source="torchvision", layers=[LAYER])


def passes(net: Network) -> Callable[[], object]:
    """Return the steps' forward and backward passes alone."""
    crops = torch.randn(CROPS, 3, 224, 224, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def run() -> None:
        for _ in range(STEPS):
            torch.autograd.grad(reach(net.module, LAYER, crops)[:, UNIT].mean(), crops)

    return run


def ours(net: Network, size: int, crop: tuple[float, float], steps: int) -> Callable[[], object]:
    """Return so many steps of ours; what is done once, before and after them, is in the time."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    table = VisualizeTable(images=1, steps=steps, size=size, crop=crop, crops=CROPS)
    spectrum = magnitude_spectrum(pixels, size)
    wanted = [Wanted("unit", NeuronBasis(LAYER, 1024), UNIT)]
    return lambda: synthesise(net, wanted, spectrum, table, batch=1)


def main() -> None:
    """Measure, write and print."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    net = network()
    jobs = {"passes": passes(net)}
    for size, crop in CANVASES:
        # Twice as many steps less as many as the passes have: what is done once drops out.
        jobs[f"ours {size} {crop}"] = ours(net, size, crop, 2 * STEPS)
        jobs[f"once {size} {crop}"] = ours(net, size, crop, STEPS)
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            begin = time.process_time()
            job()
            seconds[name].append((time.process_time() - begin) / STEPS)
    found = {"forward and backward to the layer": seconds["passes"]}
    for size, crop in CANVASES:
        both = zip(seconds[f"ours {size} {crop}"], seconds[f"once {size} {crop}"], strict=True)
        found[f"ours, canvas {size}, crops {crop[0]} to {crop[1]}"] = [two - one for two, one in both]
    table = pd.DataFrame(
        {
            "case": list(found),
            "ms_per_step": [round(1000 * median(times), 1) for times in found.values()],
            "relative": [
                round(median(t / base for t, base in zip(times, seconds["passes"], strict=True)), 3)
                for times in found.values()
            ],
        }
    )
    table.to_csv(Path(__file__).with_name("visualize.csv"), index=False)
    print(f"torch {torch.__version__}, one thread, process CPU time, medians of {ROUNDS}, interleaved")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
