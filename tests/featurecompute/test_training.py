"""The network that learns scenes: its layers, its seeds, its codes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from featurecompute import hooks, scenes, training  # noqa: E402
from featurecompute.errors import NetworkError  # noqa: E402
from featurecompute.study import NetworkTable  # noqa: E402


def test_recorded_layers_have_one_width_and_are_not_negative() -> None:
    network = training.build_network(NetworkTable(width=7))
    pixels = training.normalise(scenes.generate(3, 1).pixels)
    maps, logits = hooks.gather(network, dict.fromkeys(network.layers, "bchw"), pixels)
    assert [values.shape[:2] for values in maps.values()] == [(3, 7)] * len(training.LAYERS)
    assert all((values >= 0).all() for values in maps.values())
    assert logits.shape == (3, len(scenes.CLASSES))
    assert torch.equal(logits, network(pixels))


def test_training_learns_is_repeatable_and_can_be_stored() -> None:
    table = NetworkTable(width=5, epochs=2, seed=3)
    steps: list[tuple[int, int, float]] = []
    before = torch.get_rng_state()
    first = training.train_network(table, images=256, progress=lambda *step: steps.append(step))
    again = training.train_network(table, images=256)
    assert torch.equal(torch.get_rng_state(), before)
    assert [step[:2] for step in steps] == [(1, 2), (2, 2)]
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not first.training
    rebuilt = training.build_network(table)
    untrained = rebuilt.state_dict()["head.weight"].clone()
    rebuilt.load_state_dict(first.state_dict())
    assert not torch.equal(untrained, rebuilt.state_dict()["head.weight"])
    pixels = training.normalise(scenes.generate(4, 1).pixels)
    assert torch.equal(first(pixels), rebuilt(pixels))
    assert 0 <= training.accuracy(first, scenes.generate(20, 1)) <= 1


def test_seeds_give_other_networks() -> None:
    weights = [training.build_network(NetworkTable(seed=seed)).state_dict()["head.weight"] for seed in (1, 2, 1)]
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])


def test_a_forced_code_needs_a_channel_for_every_object() -> None:
    with pytest.raises(NetworkError, match=r"width is 12.*24 or more"):
        training.train_network(NetworkTable(code="local"))


def test_a_forced_code_comes_nearer_to_the_objects() -> None:
    table = NetworkTable(code="local", width=25, epochs=4)
    losses: list[float] = []
    training.train_network(table, images=256, progress=lambda *step: losses.append(step[2]))
    assert losses[-1] < losses[0]
    cells = torch.from_numpy(scenes.generate(8, 1).truth.cells[:, -24:]).float()
    exact = torch.cat([cells, torch.zeros(8, 1, 8, 8)], dim=1)
    maps = [torch.rand(8, 25, 32, 32), torch.rand(8, 25, 16, 16), torch.rand(8, 25, 16, 16), *[exact] * 3]
    assert training._code_error(maps, cells) == 0
    # A layer that is silent misses every object, one that always shouts errs on all else: each is wrong by a whole.
    silent, loud = torch.zeros_like(exact), torch.ones_like(exact)
    assert training._code_error([*maps[:5], silent], cells) == 1
    assert training._code_error([*maps[:5], loud], cells) == 1
