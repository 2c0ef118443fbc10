"""Kernels: in Triton's interpreter they give what columns one after another give; the compiler takes them for a device.

Both run in processes of their own, since Triton decides when it is imported whether it interprets.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from featurecompute import sweeps
from featurecompute.nmf import Settings, factorise

ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

INTERPRETED = """
import json, torch
from featurecompute import kernels, nmf, sweeps
torch.set_num_threads(1)
cpu = torch.device("cpu")
found = {"disagreement": sweeps.disagreement(cpu), "sweeps": {}, "factors": {}}
generator = torch.Generator().manual_seed(1)
for rank, count in ((1, 5), (16, 128), (19, 130)):
    atoms, rows = torch.rand(rank, 20, generator=generator), torch.rand(count, 20, generator=generator)
    atoms[rank // 2] *= rank == 1
    pull, inward, shift = sweeps.prepare(atoms, 0.2)
    target = torch.addmm(shift, inward, rows.T)
    whole = torch.rand(rank, count + 40, generator=generator)
    plain, other = whole.clone(), whole.clone()
    sweeps.sweep_codes(plain[:, 20:-20], target, pull, 2)
    kernels.sweep_codes(other[:, 20:-20], target, pull, 2)
    assert torch.equal(other[:, :20], whole[:, :20]) and torch.equal(other[:, -20:], whole[:, -20:])
    found["sweeps"][f"{rank} x {count}"] = float((plain - other).abs().max())
rows = (torch.rand(60, 6, generator=generator) - 0.5).clamp_min(0) @ torch.rand(6, 12, generator=generator)
rows += 0.05 * torch.rand(rows.shape, generator=generator)
settings = nmf.Settings(iterations=2, tolerance=-1.0, warm=0)
plain = sweeps.fused
for sparsity, signed in ((0.0, False), (0.1, True)):
    pairs = []
    for choice in (plain, lambda values: True):
        nmf.fused = sweeps.fused = choice
        pairs.append(nmf.factorise(rows, 5, sparsity=sparsity, signed=signed, settings=settings))
    differences = [(getattr(pairs[0], name) - getattr(pairs[1], name)).abs().max() for name in ("atoms", "codes")]
    found["factors"][f"{sparsity} {signed}"] = [float(difference) for difference in differences]
print(json.dumps(found))
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from featurecompute import kernels
constant = {"TILE": kernels.TILE, "CHUNK": kernels.CHUNK, "BAND": kernels.BAND, "signed": True, "free": False}
for name, kernel in kernels._compiled().items():
    tensors = ("codes", "target", "pull", "atoms", "aim", "gram")
    kinds = {arg: "constexpr" if arg in constant else "*fp32" if arg in tensors else "i32" for arg in kernel.arg_names}
    fixed = {arg: value for arg, value in constant.items() if arg in kinds}
    options = {"num_warps": kernels._WARPS[name], "num_stages": 1, "enable_fp_fusion": True}
    made = triton.compile(ASTSource(kernel, kinds, fixed), target=GPUTarget("cuda", 90, 32), options=options)
    assert made.asm["cubin"] and made.metadata.shared < 99 * 1024, name
    print(name, made.asm["ptx"].count("bar.sync"))
"""


def run(code: str, **settings: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | settings
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def interpreted():
    return json.loads(run(INTERPRETED, TRITON_INTERPRET="1"))


@needs_triton
def test_interpreted_kernels_give_what_columns_give(interpreted):
    assert interpreted["disagreement"] < 1e-5
    assert len(interpreted["sweeps"]) == 3
    assert max(interpreted["sweeps"].values()) < 1e-5


@needs_triton
def test_a_factorisation_by_interpreted_kernels_is_the_same(interpreted):
    assert len(interpreted["factors"]) == 2
    for differences in interpreted["factors"].values():
        assert 0 < max(differences) < 1e-5  # 0 would mean that no kernel ran


@needs_triton
def test_the_compiler_takes_the_kernels_for_a_device_that_is_not_here(tmp_path):
    counts = dict(line.split() for line in run(COMPILED, TRITON_CACHE_DIR=str(tmp_path)).splitlines())
    # What a band wrote is waited for before the next reads it.
    assert int(counts["codes"]) >= 2 and int(counts["atoms"]) >= 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_device_gives_what_the_processor_gives():
    device = torch.device("cuda")
    pytest.importorskip("triton")
    assert sweeps.fused(torch.zeros(1, device=device))
    assert sweeps.disagreement(device) < 1e-5
    generator = torch.Generator().manual_seed(1)
    rows = torch.rand(3001, 7, generator=generator) @ torch.rand(7, 70, generator=generator)
    rows += 0.1 * torch.rand(rows.shape, generator=generator)
    settings = Settings(iterations=5, tolerance=-1.0, warm=0)
    start = torch.rand(37, 70, generator=generator)
    for sparsity in (0.0, 0.1):
        ours, theirs = (
            factorise(rows.to(where), 37, sparsity=sparsity, start=start, settings=settings)
            for where in ("cpu", "cuda")
        )
        assert theirs.error == pytest.approx(ours.error, rel=1e-3)
        torch.testing.assert_close(theirs.atoms.cpu(), ours.atoms, rtol=0, atol=2e-2)
