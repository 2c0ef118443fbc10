"""The network split at a layer: what comes before runs once, and only what comes after is repeated.

In: a module, one of its layers and images.  Out: the layer's maps, and a `Suffix` that gives the logits for other maps.
Knows no basis and no image file.

The cut is made of calls, not of code, so it holds for any module. One pass records what every call gave that had ended
when the layer ended; a replay runs the same code, but those calls give what they gave, without computing, and the
layer gives the other map. Where an earlier output is used again beyond the layer (a skip connection, a concatenation),
the replay needs its true values; which are needed is found out by poisoning: an output that can be NaN without a change
of the logits is not used, and an expanded scalar stands in for it. In the same way it is found out whether convolutions
alone read the layer's output; where one unit's term is taken from it, they are not run anew (`removal`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from featurecompute.errors import NetworkError, nearest
from featurecompute.hooks import Layout, from_map, logits_of, watch
from featurecompute.recording import Held, Record, map_leaves, patched, reads, tensors_of
from featurecompute.removal import Removal

TOLERANCE = 1e-4
"""Largest difference between a replay of the true maps and the whole network, as a share of the largest logit."""

FEW = 3
"""Weighted modules after the layer up to which a closed form is looked for; a deeper suffix is not linear."""

_CROSSING: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
"""Layers of a network that outputs were seen to cross: their values are recorded at once, not in a second pass."""


class Suffix:
    """What comes after a layer, as a function of the layer's map.

    Attributes
    ----------
    layer : str
        Layer the network is split at.
    maps : Tensor
        The layer's own maps (B x channels x positions), float32.
    logits : Tensor
        The whole network's logits (B x classes), float32.
    """

    def __init__(self, module: nn.Module, layer: str, layout: Layout, images: Tensor) -> None:
        crossing = _CROSSING.setdefault(module, set())
        record = Record(module, layer, layout, images, forms=layer not in crossing)
        if not record.found:
            raise NetworkError(f"layer '{layer}' is not run by a forward pass of the network.")
        self.layer = layer
        self.logits = record.logits
        self.maps, output, version = record.found[0]
        if self.maps.shape[0] != images.shape[0]:
            raise NetworkError(
                f"layer '{layer}' gives {self.maps.shape[0]} rows for {images.shape[0]} images; a layer must give one "
                "map for each image."
            )
        self._module, self._layout = module, layout
        self._like, self._dtype = tuple(output.shape[1:]), output.dtype
        self._clones = output._version != version
        self._after = tuple(record.after)
        self._modules = [call.module for call in record.calls]
        held = set(self._modules)
        read = output.ndim == 4 and layout == "bchw" and output.dtype == torch.float32
        self._readers = tuple({part for part in record.readers if part not in held}) if read else ()
        self._whole: tuple[Tensor, dict[nn.Module, Tensor]] | None = None
        self._only: bool | None = None
        self._linear: tuple[Tensor, Tensor] | bool | None = False
        self._dense = False
        self._needed = 0
        self._outputs = self._hold(record, images.shape[0])
        if self._alone()[0]:
            return
        if record.forms:
            crossing.add(layer)
            del record
            self._outputs = self._hold(Record(module, layer, layout, images, forms=False), images.shape[0])
        self._settle(images)

    @property
    def crossing(self) -> int:
        """Recorded outputs whose values are needed beyond the layer."""
        return len(self._outputs) - self._needed

    def __call__(self, maps: Tensor, which: Tensor) -> Tensor:
        """Return the logits of the network when the layer gives other maps.

        Parameters
        ----------
        maps
            What the layer gives instead (n x channels x positions).
        which
            Index of the image (n) among those the network was split with, for what else crosses the layer.

        Returns
        -------
        Tensor
            Logits (n x classes), float32; differentiable in `maps` where gradients are enabled.
        """
        return self._replay(maps, which, self._needed)

    def remove(self, removal: Removal) -> Tensor:
        """Return the logits (n x classes) of the network when the layer gives maps less one term each.

        Convolutions and the pooling that read the layer's output itself are not run: see `removal`. No gradients.
        """
        with torch.no_grad():
            if not self._readers:
                return self(removal.maps(), removal.which)
            if self._whole is None or self._whole[0] is not removal.base:
                maps = from_map(removal.base, self._layout, self._like)
                self._whole = removal.base, {part: part(maps) for part in self._readers}
            if self._only is None:
                self._only = self._read_only(removal)
            return self._replay(None if self._only else removal.maps(), removal.which, self._needed, removal)

    def _read_only(self, removal: Removal) -> bool:
        """Say whether the linear readers alone see the layer's output: it can be NaN without a change."""
        one = dataclasses.replace(removal, which=removal.which[:1], codes=removal.codes[:1], units=removal.units[:1])
        try:
            found = self._replay(None, one.which, self._needed, one)
        except RuntimeError:  # something works in place on the output, which is a single number here
            return False
        return self._equal(found, self(one.maps(), one.which))

    @property
    def linear(self) -> tuple[Tensor, Tensor] | None:
        """Weights W (classes x channels) and constant b (classes) where logits = W mean_p(map) + b, or None.

        So it is for global average pooling and a linear head. W is read from the head, or else probed with one map for
        each channel; it counts only if maps with other means, signs and arrangements of positions agree. It is looked
        for where at most three modules with weights follow the layer.
        """
        if isinstance(self._linear, bool):
            self._linear = self._find_linear()
        return self._linear

    # How it is built

    def _hold(self, record: Record, batch: int) -> list[Any]:
        def hold(part: Any) -> Any:
            if not isinstance(part, Tensor):
                return part
            rows, rest = divmod(part.shape[0], batch) if part.ndim else (0, 1)
            # For a single image every size is a multiple: whether more rows are an image's cannot be seen.
            return Held(part.detach(), 0 if rest else rows, not (batch == 1 and rows > 1))

        outputs = [map_leaves(call.output, hold) for call in record.calls]
        last = outputs[-1] if not isinstance(outputs[-1], tuple) else next(iter(outputs[-1]), None)
        if isinstance(last, Held) and last.rows == 1:
            last.replaced = True  # the layer's own map, never needed
        return outputs

    def _settle(self, images: Tensor) -> None:
        """Find which recorded outputs are needed, check the cut, and let go of what is not needed."""
        fault: Exception | None = None
        for exact in (False, True):
            if exact:
                self._measure_rows(images)
            alone, fault = self._alone()
            if alone:
                return
            if not self._certain or not self._holds(0)[0]:
                continue
            low, high = 0, len(self._outputs)  # poisoning the first `low` is harmless, the first `high` is not
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._holds(middle)[0] else (low, middle)
            self._let_go(low)
            return
        raise NetworkError(
            f"the network cannot be split at layer '{self.layer}': repeating what follows it does not give the logits "
            f"again{f' ({fault})' if fault else ''}. The network must be in evaluation mode and its output must depend "
            "on the images alone."
        ) from fault

    @property
    def _certain(self) -> bool:
        return all(held.certain for held in self._all_held())

    def _alone(self) -> tuple[bool, Exception | None]:
        """Say whether no recorded output is needed; if so the cut is checked, and all are let go of."""
        fault: Exception | None = None
        for dense in (False, True) if self._certain else ():  # an expanded scalar cannot be worked on in place
            self._dense = dense
            holds, fault = self._holds(len(self._outputs))
            if holds:
                self._let_go(len(self._outputs))
                return True, None
        return False, fault

    def _measure_rows(self, images: Tensor) -> None:
        """See how many rows an image has in each recorded output, by recording one image more."""
        record = Record(self._module, self.layer, self._layout, torch.cat([images, images[:1]]), forms=True)
        for outputs, call in zip(self._outputs, record.calls, strict=False):
            for held, part in zip(self._held(outputs), tensors_of(call.output), strict=False):
                held.rows = part.shape[0] - held.shape[0] if part.ndim else 0
                held.certain = True

    def _holds(self, needed: int) -> tuple[bool, Exception | None]:
        """Say whether logits come out again when the first `needed` recorded outputs are NaN."""
        batch = self.maps.shape[0]
        # Other than as many as were recorded, and not one, which would fit any shape: a tensor that no image enters,
        # but has as many rows as there were images, must show. A single image's tensors are certain by now.
        count = 1 if batch == 1 else 3 if batch == 2 else 2
        which = torch.arange(count, device=self.maps.device).flip(0) % batch
        try:
            with torch.no_grad():
                found = self._replay(self.maps[which], which, needed)
        except Exception as error:  # whatever a network may do with NaN, or with the wrong shape
            return False, error
        return self._equal(found, self.logits[which]), None

    def _equal(self, found: Tensor, true: Tensor) -> bool:
        scale = float(self.logits.abs().max())
        return found.shape == true.shape and float((found - true).abs().max()) <= TOLERANCE * scale

    def _let_go(self, needed: int) -> None:
        self._needed = needed
        for outputs in self._outputs[:needed]:
            for held in self._held(outputs):
                if held.poisonable:
                    held.value = None
        for held in self._all_held():
            if held.replaced:
                held.value = None

    def _all_held(self) -> list[Held]:
        return [held for outputs in self._outputs for held in self._held(outputs)]

    @staticmethod
    def _held(outputs: Any) -> list[Held]:
        found: list[Held] = []
        map_leaves(outputs, lambda part: found.append(part) if isinstance(part, Held) else None)
        return found

    def _replay(self, maps: Tensor | None, which: Tensor, poisoned: int, removal: Removal | None = None) -> Tensor:
        turns: dict[nn.Module, list[int]] = {}
        for place, part in enumerate(self._modules):
            if part is not None:
                turns.setdefault(part, []).append(place)

        def give(place: int) -> Any:
            def leaf(part: Any) -> Any:
                return part.give(which, place >= poisoned, self._dense) if isinstance(part, Held) else part

            return map_leaves(self._outputs[place], leaf)

        def forward(module: nn.Module) -> Callable[..., Any]:
            own, places = module.forward, iter(turns[module])

            def call(*args: Any, **kwargs: Any) -> Any:
                place = next(places, None)
                return own(*args, **kwargs) if place is None else give(place)

            return call

        times = 0
        placed: list[tuple[Tensor, int]] = []

        def replace(_output: Tensor) -> Tensor | None:
            nonlocal times
            times += 1
            if times != self._inner_times:
                return None
            if maps is None:
                values = torch.full((), torch.nan, dtype=self._dtype, device=which.device)
                values = values.expand(len(which), *self._like)
            else:
                values = from_map(maps, self._layout, self._like).to(self._dtype)
                # The network works in place on the layer's output: the caller's maps must stay as they are.
                values = values.clone() if self._clones else values
            placed.append((values, values._version))
            return values

        def read(module: nn.Module) -> Callable[..., Any]:
            own = module.forward

            def call(*args: Any, **kwargs: Any) -> Any:
                if removal is None or self._whole is None or not (placed and reads(args, kwargs, *placed[0])):
                    return own(*args, **kwargs)
                return removal.through(module, self._whole[1][module], (self._like[1], self._like[2]))

            return call

        forwards = {module: forward(module) for module in turns}
        if removal is not None:
            forwards |= {module: read(module) for module in self._readers}
        with patched(forwards), watch(self._module, {self.layer: replace}):
            return logits_of(self._module(give(0))).float()

    @property
    def _inner_times(self) -> int:
        """Which of the layer's calls in a replay is its last: earlier ones may lie inside calls that are not made."""
        target = self._modules[-1]
        return sum(module is target for module in self._modules)

    def _find_linear(self) -> tuple[Tensor, Tensor] | None:
        if self.crossing or len(self._after) > FEW:
            return None
        with torch.no_grad():
            channels, positions = self.maps.shape[1:]
            last = torch.tensor([self.maps.shape[0] - 1], device=self.maps.device)
            one = self.maps[-1:]
            even = one.mean(2, keepdim=True).expand_as(one)
            if not self._equal(self(even, last), self.logits[-1:]):
                return None
            head = self._after[0] if len(self._after) == 1 else None
            classes = self.logits.shape[1]
            if isinstance(head, nn.Linear) and head.weight.shape == (classes, channels):
                weights = head.weight.detach().float()
                constant = torch.zeros_like(weights[:, 0]) if head.bias is None else head.bias.detach().float()
            else:
                constant = self(torch.zeros_like(one), last)[0]
                unit = torch.eye(channels, device=one.device)[:, :, None]
                weights = torch.cat(
                    [
                        self(part.expand(-1, -1, positions), last.expand(len(part))) - constant
                        for part in torch.split(unit, 64)
                    ]
                ).T.contiguous()
            # A map with other means, of both signs and with its positions in disorder: a rectifier or a normalisation
            # on the way, or one position that counts more than another, shows.
            shift = torch.linspace(-1.0, 1.0, one.numel(), device=one.device).reshape(positions, channels).T
            trial = one.flip(2) * shift + one.std() * shift.flip(1)
            trial = torch.cat([trial, -2 * trial, self.maps[-1:]])
            found = self(trial, last.expand(3))
            if self._equal(found, trial.mean(2) @ weights.T + constant):
                return weights, constant
            return None


def split(module: nn.Module, layer: str, layout: Layout, images: Tensor) -> Suffix:
    """Split a network at a layer.

    Parameters
    ----------
    module
        Network in evaluation mode, giving logits (see `hooks.logits_of`).
    layer
        Name of a layer. Where it is called several times in a pass, its last output is the layer's.
    layout
        Axes of the layer's output.
    images
        Normalised images (B x 3 x height x width) on the module's device.

    Returns
    -------
    Suffix
        It keeps the layer's maps, and of the other outputs those that are needed beyond the layer.

    Raises
    ------
    NetworkError
        If there is no such layer, it is not run, or a replay of the true maps does not give the network's logits
        within 1e-4 of the largest logit.
    """
    names = dict(module.named_modules())
    if not layer or layer not in names:
        raise NetworkError(f"the network has no layer '{layer}'{nearest(layer, names)}.")
    return Suffix(module, layer, layout, images)
