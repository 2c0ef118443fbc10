"""Nulling channels of a ResNet50 beside captum: CPU time and agreement, in one interleaved run.

In: nothing; the weights are random.  Out: contributions.csv beside this file, and the table on the console.
Knows no study. Run from the repository's root: ``python tests/benchmarks/benchmark_contributions.py``.
"""

import time
import warnings
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from featurecompute.bases import NeuronBasis
from featurecompute.contributions import null
from featurecompute.replay import split
from featurecompute.terms import terms_of

ROUNDS, CHANNELS = 5, 64


def network() -> nn.Module:
    """Return torchvision's resnet50, also where its compiled part does not fit torch's build."""
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision.models import resnet50

    torch.manual_seed(0)
    return resnet50(weights=None).eval().requires_grad_(False)


def ours(module: nn.Module, layer: str, image: Tensor, count: int, closed: bool) -> Tensor:
    """Return the drop of each of the first channels, splitting the network and checking the cut included."""
    suffix = split(module, layer, "bchw", image)
    terms = terms_of(suffix.maps, NeuronBasis(layer, suffix.maps.shape[1]))
    if not closed:
        suffix._linear = None  # so that what is timed is the replay
    targets = suffix.logits.argmax(1)
    units = torch.arange(count)
    logits = null(suffix, terms, torch.zeros_like(units), units, targets)
    return suffix.logits[0, targets[0]] - logits


def captums(module: nn.Module, layer: str, image: Tensor, count: int) -> Tensor:
    """Return the same by captum; the other channels share a group, whose ablation is one more of its forwards."""
    from captum.attr import LayerFeatureAblation

    named = dict(module.named_modules())
    with torch.no_grad():
        target = int(module(image).argmax())
        channels = {"layer3": 1024, "layer4": 2048}[layer]
        mask = torch.arange(channels).clamp_max(count)[None, :, None, None]
        found = LayerFeatureAblation(module, named[layer]).attribute(image, target=target, layer_mask=mask)
    return found[0, :count, 0, 0]


def main() -> None:
    """Measure, write and print."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    module = network()
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    jobs = {
        "forward": lambda: module(image),
        "captum layer3": lambda: captums(module, "layer3", image, CHANNELS),
        "ours layer3": lambda: ours(module, "layer3", image, CHANNELS, False),
        "captum layer4": lambda: captums(module, "layer4", image, CHANNELS),
        "ours layer4": lambda: ours(module, "layer4", image, CHANNELS, False),
        "closed layer4": lambda: ours(module, "layer4", image, 2048, True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        module(image)
        for _ in range(ROUNDS):
            for name, job in jobs.items():
                start = time.process_time()
                found[name] = job()
                seconds[name].append(time.process_time() - start)
    median = {name: sorted(values)[ROUNDS // 2] for name, values in seconds.items()}
    # captum's own pass of the original and of the group of all others do not grow with the channels.
    each = (median["captum layer4"] - 2 * median["forward"]) / CHANNELS
    singly = 2048 * each + median["forward"]
    rows = []
    for case, channels, other, mine, cost, measured in (
        ("layer3, replay", CHANNELS, "captum layer3", "ours layer3", median["captum layer3"], True),
        ("layer4, replay", CHANNELS, "captum layer4", "ours layer4", median["captum layer4"], True),
        ("layer4, closed form", 2048, "captum layer4", "closed layer4", singly, False),
    ):
        apart = float((found[other] - found[mine][:CHANNELS]).abs().max())
        rows.append(
            {
                "case": case,
                "channels": channels,
                "captum_s": round(cost, 4),
                "captum_is": "measured" if measured else f"extrapolated from {CHANNELS}",
                "ours_s": round(median[mine], 4),
                "forward_s": round(median["forward"], 4),
                "ratio": round(cost / median[mine], 1),
                "largest_difference": f"{apart:.1e}",
                "largest_drop": f"{float(found[other].abs().max()):.1e}",
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).with_name("contributions.csv"), index=False)
    print(f"torch {torch.__version__}, one thread, process CPU time, medians of {ROUNDS}, interleaved")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
