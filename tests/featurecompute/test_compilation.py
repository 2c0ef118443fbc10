"""A compiled network gives what hooks would have given, and what a compiler makes of it is looked at first."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
# ruff: noqa: E402 - what needs torch is imported when it is known to be there

from torch import nn

from featurecompute import compilation
from featurecompute.compilation import Compiled, Recorder
from featurecompute.errors import NetworkError


class Adding(nn.Module):
    """Two layers; the first one's output is added to, in place, where no module says so."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.idle = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(2, 2)

    def forward(self, x):
        x = self.first(x)
        x += 1
        return self.second(x.relu_()).mean((2, 3))


def whole(output):
    return (output.clone(),)


def peak(output):
    return output.flatten(2).max(2)


@pytest.fixture
def module():
    torch.manual_seed(1)
    return Adding().eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(2))


def test_a_recorder_gives_layers_as_they_were_and_leaves_the_network_alone(module, images):
    recorder = Recorder(module, {"first": whole, "second": peak, "idle": whole})
    found = recorder(images)
    assert list(found) == ["first", "second"]
    torch.testing.assert_close(found["first"][0], module.first(images), rtol=0, atol=0)
    assert not any(part._forward_hooks for part in module.modules())
    assert all(one is other for one, other in zip(recorder.parameters(), module.parameters(), strict=True))
    with pytest.raises(NetworkError, match="no layer 'third'"):
        Recorder(module, {"third": whole})


def test_a_compiled_network_gives_the_same(module, images, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")  # as the default, without the minute that its code takes
    torch._dynamo.reset()
    compiled = Compiled(module, {"first": whole, "second": peak})
    plain = Recorder(module, {"first": whole, "second": peak})
    with torch.inference_mode():
        for scale in (1, 2):
            found, expected = compiled(images * scale), plain(images * scale)
            for name, parts in expected.items():
                for one, other in zip(parts, found[name], strict=True):
                    torch.testing.assert_close(one, other)
    assert compiled.fault == ""


def test_a_compiler_that_fails_or_errs_is_not_taken(module, images, monkeypatch):
    def fail(graph, inputs):
        raise RuntimeError("out of order.\nmore")

    def err(graph, inputs):
        return lambda *given: [found + 1 for found in graph.forward(*given)]

    for backend, reason in ((fail, "out of order"), (err, "its results would differ")):
        monkeypatch.setattr(compilation, "BACKEND", backend)
        torch._dynamo.reset()
        compiled = Compiled(module, {"first": whole})
        for _ in range(2):
            torch.testing.assert_close(compiled(images)["first"][0], module.first(images), rtol=0, atol=0)
        assert reason in compiled.fault
