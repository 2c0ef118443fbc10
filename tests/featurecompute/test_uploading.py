"""Images on their way to a device: every part arrives, in order, and as it was."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from featurecompute.uploading import place, upload

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_parts_arrive_in_order_and_as_they_were(tmp_path, device, count):
    random = np.random.default_rng(1)
    np.save(tmp_path / "pixels.npy", random.integers(0, 256, (50, 4, 6, 3), dtype=np.uint8))
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    parts = [random.integers(0, 50, 5) for _ in range(count)]
    arrived = list(upload(pixels, parts, torch.device(device)))
    assert len(arrived) == count
    for part, found in zip(parts, arrived, strict=True):
        np.testing.assert_array_equal(torch.as_tensor(found).cpu().numpy(), pixels[part])


@pytest.mark.parametrize("device", DEVICES)
def test_a_pass_may_stop_between_parts(device):
    pixels = np.zeros((9, 2, 2, 3), np.uint8)
    coming = upload(pixels, [np.arange(3)] * 3, torch.device(device))
    assert len(next(coming)) == 3
    coming.close()
    assert next(coming, None) is None


@pytest.mark.parametrize("device", DEVICES)
def test_an_array_is_placed(device):
    found = place(np.array([[3, 1], [2, 5]]), torch.device(device))
    assert found.device.type == device
    assert found.tolist() == [[3, 1], [2, 5]]
