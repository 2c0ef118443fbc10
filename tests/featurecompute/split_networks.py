"""Small networks whose layers are hard to split at: skips, concatenations, tuples, windows, work in place.

In: a seed.  Out: modules in evaluation mode, images for them, and what they truly give with other maps.  Knows no test.
"""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F

from featurecompute.hooks import from_map, logits_of, watch


class Block(nn.Module):
    """A residual block that works in place on its own outputs, with one rectifier called twice."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class Residual(nn.Module):
    """Blocks, pooling and a linear head; functional work before, between and after."""

    def __init__(self, channels=8, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.block1, self.block2 = Block(channels), Block(channels)
        self.down = nn.Conv2d(channels, 2 * channels, 2, stride=2, bias=False)
        self.block3 = Block(2 * channels)
        self.head = nn.Linear(2 * channels, classes)

    def forward(self, x):
        x = F.relu(self.stem(x * 0.5))
        x = self.block2(self.block1(x))
        x = self.block3(self.down(x))
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Every layer reads the concatenation of all before it, and the images are read again at the end."""

    def __init__(self, growth=4, classes=5):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + i * growth, growth, 3, padding=1) for i in range(4))
        self.head = nn.Linear(3 + 4 * growth, classes)

    def forward(self, x):
        found = [x]
        for layer in self.layers:
            found.append(F.relu(layer(torch.cat(found, 1))))
        return self.head(torch.cat(found, 1).amax((2, 3)))


@dataclasses.dataclass
class Hidden:
    """What a transformer block gives, as some libraries do."""

    state: torch.Tensor
    weights: torch.Tensor


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x, *, scale):
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = (q @ k.transpose(1, 2) * scale).softmax(-1)
        return self.out(weights @ v), weights


class Wrapped(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attention = Attention(width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, hidden):
        state, weights = self.attention(self.norm(hidden.state), scale=0.5)
        state = hidden.state + state
        return Hidden(state + self.mlp(state), weights)


class Bias(nn.Module):
    """Gives a tensor that no image enters."""

    def __init__(self, *shape):
        super().__init__()
        self.values = nn.Parameter(torch.randn(*shape))

    def forward(self):
        return self.values * 2


class Transformer(nn.Module):
    """Tuples and dataclasses, keywords, a class token, positions from a module without input, and windows."""

    def __init__(self, width=8, classes=5):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.position = Bias(4, width)
        self.window = nn.Linear(width, width)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList([Wrapped(width), Wrapped(width)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        position = self.position()
        windows = self.window(x.reshape(-1, 2, x.shape[-1]))
        x = x + windows.reshape(x.shape) + position
        hidden = Hidden(torch.cat([self.token.expand(len(x), -1, -1), x], 1), x)
        for block in self.blocks:
            hidden = block(hidden)
        # The windows and the positions cross every layer of the blocks.
        late = hidden.state[:, 1:] * windows.reshape(x.shape) + position
        return (self.head(self.norm(hidden.state[:, 0] + late.mean(1))), hidden.weights)


def make(kind, seed=0):
    """Return a network in evaluation mode, its batch normalisations with statistics that are not trivial."""
    torch.manual_seed(seed)
    module = kind()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return module.eval().requires_grad_(False)


def loud(kind, gain=3.0):
    """Return the same with larger weights, so that one unit changes the logits by much more than rounding does."""
    module = make(kind)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight *= gain
    return module


def pictures(count, size=8, seed=0):
    """Return images (count x 3 x size x size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def whole(module, layer, layout, images, maps):
    """Logits of the whole network when the last call of a layer gives other maps: the truth, one image at a time."""
    found = []
    for image, values in zip(images, maps, strict=True):
        calls = [0]
        with watch(module, {layer: lambda _output, calls=calls: calls.__setitem__(0, calls[0] + 1)}):
            module(image[None])
        times, turn = calls[0], [0]

        def replace(output, turn=turn, times=times, values=values):
            turn[0] += 1
            return from_map(values[None], layout, tuple(output.shape[1:])).clone() if turn[0] == times else None

        with watch(module, {layer: replace}):
            found.append(logits_of(module(image[None])))
    return torch.cat(found)
