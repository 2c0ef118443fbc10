"""The network split at a layer: what comes before runs once, and only what comes after is repeated.

In: a module, one of its layers and images.  Out: the layer's maps, and a `Suffix` that gives the logits for other maps.
Knows no basis and no image file.

The cut is made of calls, not of code, so it holds for any module. One pass records what every call gave that had ended
when the layer ended; a replay runs the same code, but those calls give what they gave, without computing, and the
layer gives the other map. Where an earlier output is used again beyond the layer (a skip connection, a concatenation),
the replay needs its true values; which are needed is found out by poisoning: an output that can be NaN without a change
of the logits is not used, and an expanded scalar stands in for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from featurecompute.errors import NetworkError, nearest
from featurecompute.hooks import Layout, from_map, logits_of, to_map, watch

TOLERANCE = 1e-4
"""Largest difference between a replay of the true maps and the whole network, as a share of the largest logit."""

FEW = 3
"""Weighted modules after the layer up to which a closed form is looked for; a deeper suffix is not linear."""


class _Held:
    """A tensor that a call gave: its values, or only its form, to be given again for any number of images."""

    def __init__(self, value: Tensor, rows: int, certain: bool, spoilt: bool) -> None:
        self.value: Tensor | None = value
        self.rows = rows
        """Rows for each image along the first axis; 0 for a tensor that does not depend on the images."""
        self.certain = certain
        self.shape, self.dtype, self.device = value.shape, value.dtype, value.device
        self.replaced = False
        self.spoilt = spoilt

    @property
    def poisonable(self) -> bool:
        return self.rows > 0 and self.dtype.is_floating_point

    def give(self, which: Tensor, true: bool, dense: bool) -> Tensor:
        if not self.poisonable or (true and not self.replaced):
            assert self.value is not None
            if not self.rows:
                return self.value.clone()  # the network may work in place
            parts = self.value.reshape(-1, self.rows, *self.shape[1:]).index_select(0, which)
            return parts.flatten(0, 1)
        shape = (which.shape[0] * self.rows, *self.shape[1:])
        if dense:
            return torch.full(shape, torch.nan, dtype=self.dtype, device=self.device)
        return torch.full((), torch.nan, dtype=self.dtype, device=self.device).expand(shape)


@dataclasses.dataclass
class _Call:
    module: nn.Module | None
    """None: not a call, but the images themselves."""
    output: Any
    versions: tuple[tuple[Tensor, int], ...] = ()
    """Its tensors, with how often each had been worked on in place when the call ended."""


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the leaves of what a call gave; the fields of a dataclass are leaves' places too."""
    if isinstance(value, Tensor | _Held):  # most calls; the general way costs as much as a small layer
        return function(value)

    def leaf(part: Any) -> Any:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            fields = [field.name for field in dataclasses.fields(part) if field.init]
            return dataclasses.replace(part, **{name: _map(getattr(part, name), function) for name in fields})
        return function(part)

    return pytree.tree_map(leaf, value)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(value, lambda part: found.append(part) if isinstance(part, Tensor) else None)
    return found


@contextlib.contextmanager
def _patched(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Put other forwards on modules while the block runs; each has its own again afterwards, whatever happens."""
    before: list[tuple[nn.Module, bool, Any]] = []
    try:
        for module, forward in forwards.items():
            before.append((module, "forward" in module.__dict__, module.__dict__.get("forward")))
            module.__dict__["forward"] = forward
        yield
    finally:
        for module, had, forward in reversed(before):
            if had:
                module.__dict__["forward"] = forward
            else:
                module.__dict__.pop("forward", None)


class _Record:
    """One pass of the whole network: what the calls gave that had ended when the layer's last call ended."""

    def __init__(self, module: nn.Module, layer: str, layout: Layout, images: Tensor, copy: bool = False) -> None:
        self.target = module.get_submodule(layer)
        self.copy = copy
        parts = layer.split(".")
        # Only calls made by modules that are still running when the layer ends are wanted. As a rule these are the
        # modules that the layer lies in; what others call is not held, so that its memory is free at once.
        self.keeps = {module.get_submodule(".".join(parts[:depth])) for depth in range(len(parts))}
        self._run(module, layer, layout, images)
        if self.lost:
            self.keeps = set(module.modules())
            self._run(module, layer, layout, images)

    def _run(self, module: nn.Module, layer: str, layout: Layout, images: Tensor) -> None:
        self.frames: list[list[_Call] | None] = [[]]
        self.calls: list[_Call] = []
        self.after: list[nn.Module] = []
        self.found: list[tuple[Tensor, Tensor, int]] = []
        self.lost = False

        def keep(output: Tensor) -> None:
            # A copy: what comes after may work in place on it.
            self.found = [(to_map(output.detach(), layout).float().clone(), output, output._version)]

        forwards = {part: self._forward(part) for part in module.modules() if part is not module}
        with torch.no_grad(), _patched(forwards), watch(module, {layer: keep}):
            self.logits = logits_of(module(images)).float()
        self.calls.insert(0, _Call(None, images))

    def _forward(self, module: nn.Module) -> Callable[..., Any]:
        own = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            outer = self.frames[-1]
            self.frames.append([] if module in self.keeps else None)
            try:
                output = own(*args, **kwargs)
            finally:
                # Calls inside this one are not needed: it will give its output without calling them.
                self.frames.pop()
            if outer is not None:
                outer.append(self._call(module, output))
            if module is self.target:
                self.after = []
                self.lost = None in self.frames
                self.calls = [call for frame in self.frames for call in frame or ()]
            elif any(part is not None for part in module._parameters.values()):
                self.after.append(module)
            return output

        return forward

    def _call(self, module: nn.Module, output: Any) -> _Call:
        if self.copy:
            return _Call(module, _map(output, lambda part: part.detach().clone() if isinstance(part, Tensor) else part))
        return _Call(module, output, tuple((part, part._version) for part in _tensors(output)))

    @property
    def spoilt(self) -> set[int]:
        """Identities of the tensors that something worked on in place after they were recorded."""
        return {id(part) for call in self.calls for part, version in call.versions if part._version != version}


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
        record = _Record(module, layer, layout, images)
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
        self._linear: tuple[Tensor, Tensor] | bool | None = False
        self._dense = False
        self._needed = 0
        self._outputs = self._hold(record, images.shape[0])
        spoilt = [held for held in self._all_held() if held.spoilt and not held.replaced]
        if all(held.poisonable for held in spoilt) and self._alone()[0]:
            return
        if spoilt:
            # Copies cost memory and a second pass, so they are taken only now that values are needed.
            del record
            self._outputs = self._hold(_Record(module, layer, layout, images, copy=True), images.shape[0])
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

    def _hold(self, record: _Record, batch: int) -> list[Any]:
        spoilt = record.spoilt

        def hold(part: Any) -> Any:
            if not isinstance(part, Tensor):
                return part
            rows, rest = divmod(part.shape[0], batch) if part.ndim else (0, 1)
            # For a single image every size is a multiple: whether more rows are an image's cannot be seen.
            return _Held(part.detach(), 0 if rest else rows, not (batch == 1 and rows > 1), id(part) in spoilt)

        outputs = [_map(call.output, hold) for call in record.calls]
        last = outputs[-1] if not isinstance(outputs[-1], tuple) else next(iter(outputs[-1]), None)
        if isinstance(last, _Held) and last.rows == 1:
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
        record = _Record(self._module, self.layer, self._layout, torch.cat([images, images[:1]]))
        for outputs, call in zip(self._outputs, record.calls, strict=False):
            for held, part in zip(self._held(outputs), _tensors(call.output), strict=False):
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

    def _all_held(self) -> list[_Held]:
        return [held for outputs in self._outputs for held in self._held(outputs)]

    @staticmethod
    def _held(outputs: Any) -> list[_Held]:
        found: list[_Held] = []
        _map(outputs, lambda part: found.append(part) if isinstance(part, _Held) else None)
        return found

    def _replay(self, maps: Tensor, which: Tensor, poisoned: int) -> Tensor:
        turns: dict[nn.Module, list[int]] = {}
        for place, part in enumerate(self._modules):
            if part is not None:
                turns.setdefault(part, []).append(place)

        def give(place: int) -> Any:
            def leaf(part: Any) -> Any:
                return part.give(which, place >= poisoned, self._dense) if isinstance(part, _Held) else part

            return _map(self._outputs[place], leaf)

        def forward(module: nn.Module) -> Callable[..., Any]:
            own, places = module.forward, iter(turns[module])

            def call(*args: Any, **kwargs: Any) -> Any:
                place = next(places, None)
                return own(*args, **kwargs) if place is None else give(place)

            return call

        times = 0

        def replace(_output: Tensor) -> Tensor | None:
            nonlocal times
            times += 1
            if times != self._inner_times:
                return None
            values = from_map(maps, self._layout, self._like).to(self._dtype)
            # The network works in place on the layer's output: the caller's maps must stay as they are.
            return values.clone() if self._clones else values

        with _patched({module: forward(module) for module in turns}), watch(self._module, {self.layer: replace}):
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
