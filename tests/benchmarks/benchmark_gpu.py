"""On a CUDA device: extraction, NMF, synthesis and nulling beside what arithmetic allows, in one call of some minutes.

In: nothing.  Out: gpu.csv beside this file, and the same as text; without a device it says so and writes nothing.

    python tests/benchmarks/benchmark_gpu.py

A part that fails is a row with its fault, and the others are measured. Bounds are of one H200 (790 TFLOP/s bf16, 4.3
TB/s): of ResNet50 in bf16, 28,000 images a second where every operation reads and writes memory, 78,000 where they are
fused; of a sweep over the codes of 1.2 million rows at rank 300, 3.2 ms; of an iteration of NMF, 4 to 12 ms, by columns
about 105.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from featurecompute import nmf, sweeps
from featurecompute.activations import numerics, scan_shard
from featurecompute.bases import NeuronBasis
from featurecompute.cards import Network, Preprocessing, describe_network
from featurecompute.contributions import measure
from featurecompute.folding import optimised
from featurecompute.libraries import library
from featurecompute.replay import split
from featurecompute.spectrum import magnitude_spectrum
from featurecompute.study import VisualizeTable
from featurecompute.visualize import Wanted, synthesise

LAYERS = ("layer1", "layer2", "layer3", "layer4")
BOUND_EAGER, BOUND_FUSED = 28_000, 78_000  # images a second
BOUND_SWEEP, BOUND_ITERATION = 3.2e-3, 12e-3  # seconds, of 1.2 million rows at rank 300

Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured; smaller ones are for a look at whether all of this runs."""

    device: str = "cuda"
    model: str = "resnet50"
    images: int = 4096
    batch: int = 256
    rows: int = 1_200_000
    width: int = 2048
    rank: int = 300
    steps: int = 32
    together: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    nulled: int = 64
    rounds: int = 3

    @property
    def where(self) -> torch.device:
        return torch.device(self.device)


def wait() -> None:
    """Wait until the device has done all."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def once(work: Callable[[], Any]) -> float:
    """Return the seconds of a piece of work, the device waited for."""
    wait()
    since = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - since


def seconds(work: Callable[[], Any], sizes: Sizes) -> tuple[float, float]:
    """Return the median seconds of a piece of work, and those of its first round, which compiles and warms up."""
    first = once(work)
    return statistics.median(once(work) for _ in range(sizes.rounds)), first


def open_resnet(sizes: Sizes) -> Network:
    """Return a ResNet with random weights, looked into at its four stages."""
    torch.manual_seed(1)
    module: nn.Module = getattr(library("torchvision").models, sizes.model)(weights=None)
    network = describe_network(module, Preprocessing(), id=sizes.model, source="torchvision", layers=LAYERS)
    network.module.to(sizes.device)
    return network


def time_extraction(sizes: Sizes) -> Iterator[Row]:
    """Time the pass over images of a memory map beside forwards of images that are on the device already."""
    network = optimised(open_resnet(sizes))
    bases = {layer.name: [NeuronBasis(layer.name, layer.channels)] for layer in network.layers}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "pixels.npy"
        written = np.lib.format.open_memmap(path, "w+", np.uint8, (sizes.images, 224, 224, 3))
        random = np.random.default_rng(1)
        for start in range(0, sizes.images, sizes.batch):
            written[start : start + sizes.batch] = random.integers(0, 256, (sizes.batch, 224, 224, 3), dtype=np.uint8)
        written.flush()
        pixels = np.load(path, mmap_mode="r")
        images = torch.from_numpy(pixels[: sizes.batch].copy()).to(sizes.where)
        for precision in ("fp32", "bf16"):
            for compiled in (False, True):
                module = torch.compile(network.module, dynamic=False) if compiled else network.module
                warned: list[str] = []

                @torch.inference_mode()
                def forward(module: Any = module, precision: Any = precision) -> None:
                    with numerics(sizes.where, precision):
                        for _ in range(sizes.images // sizes.batch):
                            module(network.normalise(images))

                def scan(precision: Any = precision, compiled: bool = compiled, warn: Any = warned.append) -> None:
                    options = {"batch": sizes.batch, "precision": precision, "compiled": compiled, "warn": warn}
                    scan_shard(network, bases, pixels, 0, sizes.images, device=sizes.device, **options)

                alone, first = seconds(forward, sizes)
                whole, began = seconds(scan, sizes)
                case = f"{precision}, {'compiled' if compiled else 'eager'}"
                bound = (BOUND_FUSED if compiled else BOUND_EAGER) if precision == "bf16" else np.nan
                for name, taken, start in (("forward", alone, first), ("pass", whole, began)):
                    rate = sizes.images / taken
                    yield {
                        "case": f"{name}, {case}",
                        "seconds": taken,
                        "first_s": start,
                        "per_s": rate,
                        "of_bound": rate / bound,
                        "ratio": alone / taken,
                        "fault": "; ".join(warned) if name == "pass" else "",
                    }


@contextlib.contextmanager
def columns() -> Iterator[None]:
    """Update columns one after another, as where there are no kernels."""
    with (
        mock.patch.object(sweeps, "fused", lambda values: False),
        mock.patch.object(nmf, "fused", lambda values: False),
    ):
        yield


@contextlib.contextmanager
def tf32() -> Iterator[None]:
    """Let products be TF32's, to see what they would bring."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def time_nmf(sizes: Sizes) -> Iterator[Row]:
    """Time a sweep and an iteration, by kernels and by columns, and compare what they come to."""
    count = sizes.rows
    if sizes.device == "cuda":  # rows, a mask of them and codes must find room
        free, _ = torch.cuda.mem_get_info()
        count = min(count, int(0.5 * free / (4 * (sizes.width + 2 * sizes.rank))))
    scale = sizes.rows / count
    generator = torch.Generator(sizes.where).manual_seed(1)
    rows = torch.rand(count, sizes.width, generator=generator, device=sizes.where)
    start = torch.rand(sizes.rank, sizes.width, generator=generator, device=sizes.where)
    pull, inward, shift = sweeps.prepare(nmf.unit(start), 0.1)
    target = torch.addmm(shift, inward, rows[: nmf.block_rows(rows)].T)
    ways = {"kernels": contextlib.nullcontext, "columns": columns}
    for name, way in ways.items():
        with way():
            codes = torch.zeros_like(target)
            taken, first = seconds(functools.partial(sweeps.sweep_codes, codes, target, pull, 1), sizes)
            whole = taken * sizes.rows / target.shape[1]
            yield {"case": f"sweep, {name}", "seconds": whole, "first_s": first, "of_bound": BOUND_SWEEP / whole}
    del target
    errors = {}
    for name, way in {**ways, "kernels, products in TF32": tf32}.items():

        def run(iterations: int, name: str = name) -> None:
            settings = nmf.Settings(iterations=iterations, tolerance=-1.0, warm=0)
            errors[name] = nmf.factorise(rows, sizes.rank, sparsity=0.05, start=start, settings=settings).error

        with way():
            # The first iteration sweeps more often; of six, five are as any other, one of them with a check.
            few, many = (seconds(lambda count=count: run(count), sizes)[0] for count in (1, 6))
        taken = scale * (many - few) / 5
        yield {
            "case": f"iteration, {name}, {count:,} rows x {scale:.2f}",
            "seconds": taken,
            "of_bound": BOUND_ITERATION / taken,
            "difference": abs(errors[name] - errors["kernels"]),
        }


def time_synthesis(sizes: Sizes) -> Iterator[Row]:
    """Time MACO for more and more features at once."""
    network = open_resnet(sizes)
    layer = network.layer("layer4")
    basis = NeuronBasis(layer.name, layer.channels)
    table = VisualizeTable(steps=sizes.steps, patience=10 * sizes.steps)
    pixels = np.random.default_rng(3).integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    spectrum = magnitude_spectrum(pixels, 2 * network.preprocessing.size)
    alone = np.nan
    for together in sizes.together:
        wanted = [Wanted(str(unit), basis, unit) for unit in range(together)]

        def run(wanted: list[Wanted] = wanted, together: int = together) -> None:
            synthesise(network, wanted, spectrum, table, together=together, device=sizes.device)

        taken, first = seconds(run, sizes)
        rate = together / taken * sizes.steps / VisualizeTable().steps
        alone = rate if together == sizes.together[0] else alone
        case = f"{together} at once, of {VisualizeTable().steps} steps"
        yield {"case": case, "seconds": taken, "first_s": first, "per_s": rate, "ratio": rate / alone}


def time_nulling(sizes: Sizes) -> Iterator[Row]:
    """Time nulling of channels of layer3 in 8 images, on the device and on the processor, and compare them."""
    network = open_resnet(sizes)
    pixels = np.random.default_rng(2).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    layer = network.layer("layer3")
    found: dict[str, Tensor] = {}

    def null(device: str) -> None:
        network.module.to(device)
        suffix = split(network.module, layer.name, layer.layout, network.normalise(pixels))
        names = {channel: str(channel) for channel in range(sizes.nulled)}
        basis = NeuronBasis(layer.name, layer.channels)
        table = measure(suffix, basis, names, images=[str(i) for i in range(8)], methods=("subtract",), batch=64)
        found[device] = torch.from_numpy(table["drop"].to_numpy())

    device, first = seconds(lambda: null(sizes.device), sizes)
    processor = once(lambda: null("cpu"))
    yield {"case": "processor", "seconds": processor, "ratio": 1.0}
    yield {
        "case": "device",
        "seconds": device,
        "first_s": first,
        "ratio": processor / device,
        "difference": float((found[sizes.device] - found["cpu"]).abs().max()),
    }


PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "extraction": time_extraction,
    "nmf": time_nmf,
    "synthesis": time_synthesis,
    "nulling": time_nulling,
}


def measure_all(sizes: Sizes) -> pd.DataFrame:
    """Return a row a case; a part that fails ends with a row that says why."""
    rows = []
    for part, work in PARTS.items():
        since = time.perf_counter()
        try:
            for row in work(sizes):
                rows.append({"part": part, **row})  # one by one: those before a fault are kept
        except Exception as error:  # the other parts are worth their minutes
            rows.append({"part": part, "case": "failed", "fault": f"{type(error).__name__}: {error}".split("\n")[0]})
        print(f"{part}: {time.perf_counter() - since:.0f} s", file=sys.stderr)
        if sizes.device == "cuda":
            torch.cuda.empty_cache()
    return pd.DataFrame(rows)


def main() -> int:
    """Measure all, print and write."""
    if not torch.cuda.is_available():
        print("torch sees no CUDA device here; nothing was measured.")
        return 0
    table = measure_all(Sizes()).assign(device=torch.cuda.get_device_name(), torch=torch.__version__)
    table.to_csv(Path(__file__).with_name("gpu.csv"), index=False, float_format="%.6g")
    with pd.option_context("display.width", 240, "display.max_columns", None):
        print(table.drop(columns=["device", "torch"]).to_string(index=False, float_format="%.4g", na_rep=""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
