"""Rows of activations beyond the sample of a scan: of chosen images, their crops, or their pooled maps.

In: a network, pixels, numbers of images.  Out: rows (n x channels) of layers.  Knows no file and no dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from featurecompute.cards import Network
from featurecompute.hooks import gather, gather_input


@torch.inference_mode()
def maps_of(
    network: Network, layers: Sequence[str], pixels: np.ndarray, images: np.ndarray, batch: int
) -> Iterator[tuple[np.ndarray, dict[str, Tensor], Tensor]]:
    """Run chosen images through the network.

    Parameters
    ----------
    network
        Network.
    layers
        Layers wanted.
    pixels
        All images (N x height x width x 3), uint8.
    images
        Numbers of those wanted.
    batch
        Images at once.

    Yields
    ------
    tuple
        Numbers of a batch of images, each layer's maps (batch x channels x positions), and the logits.
    """
    layouts = {name: network.layer(name).layout for name in layers}
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        maps, logits = gather(network.module, layouts, network.normalise(np.asarray(pixels[part])))
        yield part, maps, logits


@torch.inference_mode()
def embed(network: Network, pixels: np.ndarray, batch: int) -> np.ndarray:
    """Return what the network's head is given for images (n x height x width x 3, uint8): n x features, float32."""
    parts = [
        gather_input(network.module, network.head, network.normalise(pixels[start : start + batch])).cpu().numpy()
        for start in range(0, len(pixels), batch)
    ]
    return np.concatenate(parts)


def crop(pixels: np.ndarray, share: float, stride: float) -> np.ndarray:
    """Cut images into overlapping squares and bring each to the size of the whole.

    Parameters
    ----------
    pixels
        Images (n x side x side x 3), uint8.
    share
        Side of a crop as a share of the image's.
    stride
        Step as a share of the crop's side; CRAFT (Fel et al. 2023) takes 0.8.

    Returns
    -------
    ndarray
        n x crops x side x side x 3, uint8, row by row.
    """
    height, width = pixels.shape[1:3]
    side = max(1, round(share * min(height, width)))
    step = max(1, round(stride * side))
    tops, lefts = range(0, height - side + 1, step), range(0, width - side + 1, step)
    cut = np.stack([pixels[:, t : t + side, le : le + side] for t in tops for le in lefts], axis=1)
    values = torch.from_numpy(cut.reshape(-1, side, side, 3)).permute(0, 3, 1, 2).float()
    scaled = functional.interpolate(values, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    found = scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found.reshape(len(pixels), len(tops) * len(lefts), height, width, 3)


def crop_rows(
    network: Network, layer: str, pixels: np.ndarray, images: np.ndarray, share: float, stride: float, batch: int
) -> Tensor:
    """Return the mean activations of crops of images (images x crops x channels), as CRAFT reads a layer."""
    found = []
    for image in images:
        cut = crop(np.asarray(pixels[image : image + 1]), share, stride)[0]
        parts = maps_of(network, [layer], cut, np.arange(len(cut)), batch)
        found.append(torch.cat([maps[layer].mean(2) for _, maps, _ in parts]))
    return torch.stack(found)


def draw_rows(
    network: Network,
    layer: str,
    pixels: np.ndarray,
    images: np.ndarray,
    *,
    how: str,
    count: int,
    share: float,
    stride: float,
    seed: int,
    batch: int,
) -> Tensor:
    """Return rows to learn a dictionary from, drawn from chosen images.

    Parameters
    ----------
    images
        Numbers of the images.
    how
        positions, crops, mean or max: what a row is.
    count
        Rows at most.
    share, stride
        Of crops.
    seed
        Of the draw, where there are more rows than are wanted.

    Returns
    -------
    Tensor
        Rows (n x channels), in the order of images, then positions or crops.
    """
    random = np.random.default_rng(seed)
    if how == "crops":
        each = crop(np.asarray(pixels[images[:1]]), share, stride).shape[1]
        enough = min(len(images), -(-count // each))
        chosen = np.sort(random.choice(images, enough, replace=False))
        rows = crop_rows(network, layer, pixels, chosen, share, stride, batch).flatten(0, 1)
    else:
        enough = min(len(images), count)
        chosen = np.sort(random.choice(images, enough, replace=False))
        parts = []
        for _, maps, _ in maps_of(network, [layer], pixels, chosen, batch):
            values = maps[layer]
            if how == "positions":
                keep = min(values.shape[2], -(-count // enough))
                # Few positions of each of many images say more than all positions of a few.
                places = np.sort(np.stack([random.permutation(values.shape[2])[:keep] for _ in values]), axis=1)
                index = torch.from_numpy(places).to(values.device)[:, None].expand(-1, values.shape[1], -1)
                parts.append(values.gather(2, index).transpose(1, 2).flatten(0, 1))
            else:
                parts.append(values.mean(2) if how == "mean" else values.amax(2))
        rows = torch.cat(parts)
    if len(rows) <= count:
        return rows
    return rows[torch.from_numpy(np.sort(random.permutation(len(rows))[:count])).to(rows.device)]
