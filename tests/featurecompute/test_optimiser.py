"""Adam and NAdam beside torch's own, and each image beside itself alone."""

import pytest

torch = pytest.importorskip("torch")

from featurecompute.optimiser import Optimiser  # noqa: E402


def gradients(steps=30, count=3, seed=0):
    """Gradients of several scales whose first has a largest entry of 1, so that torch's epsilon means the same."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(steps, count, 4, 5, generator=generator) * torch.tensor([1.0, 1e-3, 0.1, 1.0])[:, None]
    return found / found[0].abs().amax((1, 2), keepdim=True)


@pytest.mark.parametrize(("nesterov", "theirs"), [(False, torch.optim.Adam), (True, torch.optim.NAdam)])
def test_steps_are_torchs(nesterov, theirs):
    start = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    parameter = torch.nn.Parameter(start.clone())
    other = theirs([parameter], lr=0.3, maximize=True)
    own = Optimiser(start.clone(), 0.3, nesterov)
    for gradient in gradients():
        parameter.grad = gradient.clone()
        other.step()
        own.step(gradient, [True] * 3)
        torch.testing.assert_close(own.numbers, parameter.detach(), rtol=1e-5, atol=2e-6)
    assert (own.numbers - start).abs().mean() > 0.5


def test_the_scale_of_the_gradient_is_no_matter():
    found = []
    for scale in (1.0, 2.0**-60):
        own = Optimiser(torch.zeros(3, 4, 5), 1.0, True)
        for gradient in gradients():
            own.step(gradient * scale, [True] * 3)
        found.append(own.numbers)
    assert torch.equal(*found) and found[0].abs().min() > 0


def test_an_image_moves_as_it_does_alone_whenever_it_came():
    several = Optimiser(torch.zeros(3, 4, 5), 1.0, True)
    first, late = gradients(seed=1), gradients(seed=2)
    for step in range(10):
        gradient = first[step].clone()
        gradient[2] = torch.nan  # a place that is not moving may hold anything
        several.step(gradient, [True, True, False])
    several.place(1, torch.ones(4, 5))
    several.place(2, torch.full((4, 5), 2.0))
    for step in range(10):
        gradient = torch.stack([first[10 + step, 0], late[step, 1], late[step, 2]])
        several.step(gradient, [True, True, True])
    alone = Optimiser(torch.ones(1, 4, 5), 1.0, True)
    third = Optimiser(torch.full((1, 4, 5), 2.0), 1.0, True)
    always = Optimiser(torch.zeros(1, 4, 5), 1.0, True)
    for step in range(20):
        always.step(first[step, :1], [True])
        if step < 10:
            alone.step(late[step, 1:2], [True])
            third.step(late[step, 2:], [True])
    assert torch.equal(several.numbers, torch.cat([always.numbers, alone.numbers, third.numbers]))


def test_what_is_not_moving_stays():
    own = Optimiser(torch.zeros(3, 4, 5), 1.0, False)
    own.step(gradients()[0], [True, False, True])
    assert (own.numbers[1] == 0).all() and (own.numbers[[0, 2]] != 0).all()
