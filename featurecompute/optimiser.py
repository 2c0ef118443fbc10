"""Adam and NAdam over a stack of images, each on its own: no image's step depends on those beside it.

In: values and their gradients, stacked.  Out: the values moved.  Knows no network and no image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_DECAY = 4e-3  # of NAdam's momentum


class Optimiser:
    """Steps up the gradient, as `torch.optim.Adam` and `torch.optim.NAdam` take them with their own defaults.

    The gradient is measured in units of the largest entry of an image's first, so that steps do not depend on the scale
    of a network's activations; with torch's, epsilon (1e-8) makes them.

    Parameters
    ----------
    values
        What is moved (images x ...), in place.
    rate
        Learning rate.
    nesterov
        NAdam (Dozat 2016) instead of Adam (Kingma and Ba 2015).
    """

    def __init__(self, values: Tensor, rate: float, nesterov: bool) -> None:
        self.numbers, self.rate, self.nesterov = values, rate, nesterov
        self.first, self.second = torch.zeros_like(values), torch.zeros_like(values)
        self.units = torch.ones(len(values), device=values.device)
        self.counts = [0] * len(values)
        self.products = [1.0] * len(values)

    def place(self, number: int, values: Tensor) -> None:
        """Put a new image in the place of another."""
        self.numbers[number] = values
        self.first[number], self.second[number] = 0, 0
        self.counts[number], self.products[number] = 0, 1.0

    def step(self, gradient: Tensor, moving: Sequence[bool]) -> None:
        """Move the images that are `moving`; the others stay where they are."""
        which = self._wide(torch.tensor(moving, device=gradient.device))
        gradient = torch.where(which, gradient, 0)
        fresh = torch.tensor([not count for count in self.counts], device=gradient.device)
        size = gradient.flatten(1).abs().amax(1)
        self.units = torch.where(fresh & (size > 0), size, self.units)
        gradient = gradient / self._wide(self.units)
        now, ahead, bias = (
            self._wide(torch.tensor(each, device=gradient.device, dtype=gradient.dtype))
            for each in zip(*map(self._coefficients, range(len(moving)), moving), strict=True)
        )
        self.first.lerp_(gradient, 1 - _BETAS[0])
        self.second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        self.numbers += (now * gradient + ahead * self.first) / ((self.second * bias).sqrt() + _EPSILON)

    def _wide(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (self.numbers.ndim - 1))

    def _coefficients(self, number: int, moving: bool) -> tuple[float, float, float]:
        """Count a step of an image; return the weights of its gradient and of its mean, and what undoes the bias of
        its mean square."""
        if not moving:
            return 0.0, 0.0, 1.0
        self.counts[number] += 1
        count = self.counts[number]
        bias = 1 / (1 - _BETAS[1] ** count)
        if not self.nesterov:
            return 0.0, self.rate / (1 - _BETAS[0] ** count), bias
        momentum, following = (_BETAS[0] * (1 - 0.5 * 0.96 ** (step * _DECAY)) for step in (count, count + 1))
        self.products[number] *= momentum
        product = self.products[number]
        now, ahead = (1 - momentum) / (1 - product), following / (1 - product * following)
        return self.rate * now, self.rate * ahead, bias
