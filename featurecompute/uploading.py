"""Images on their way to a device: the next part is read and copied while the last is worked on.

In: images as an array or a memory map, which of them, a device.  Out: the parts, in order.  Knows no network.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor


def upload(
    pixels: np.ndarray, parts: Sequence[np.ndarray], device: torch.device
) -> Generator[np.ndarray | Tensor, None, None]:
    """Yield parts of the images in order, on a CUDA device as tensors, elsewhere as arrays.

    Images go over the bus as they are, a byte a value, from memory that the device reads by itself. A thread fills one
    of two such buffers while the other is copied, and neither waits for the device's work.

    Parameters
    ----------
    pixels
        Images (N x height x width x 3), uint8.
    parts
        Numbers of the images of each part; every part has as many.
    device
        Where they go.
    """
    if device.type != "cuda":
        for part in parts:
            yield np.ascontiguousarray(pixels[part])
        return
    shape = (len(parts[0]), *pixels.shape[1:]) if parts else (0,)
    buffers = [torch.empty(shape, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    copied = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(number: int) -> Tensor:
        which = number % 2
        copied[which].synchronize()  # at once where nothing was copied yet
        # "clip" lets numpy write to the buffer itself; all numbers are there.
        np.take(pixels, parts[number], axis=0, out=buffers[which].numpy(), mode="clip")
        with torch.inference_mode(), torch.cuda.device(device), torch.cuda.stream(stream):
            there = buffers[which].to(device, non_blocking=True)
            copied[which].record(stream)
        return there

    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(send, number) for number in range(min(1, len(parts)))]
        for number in range(len(parts)):
            there = coming.pop().result()
            work = torch.cuda.current_stream(device)
            work.wait_event(copied[number % 2])
            there.record_stream(work)  # or its memory could be given away before the work on it is done
            if number + 1 < len(parts):
                coming.append(pool.submit(send, number + 1))
            yield there


def place(values: np.ndarray, device: torch.device) -> Tensor:
    """Return an array on a device, which is not waited for."""
    found = torch.from_numpy(values)
    return found.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else found.to(device)
