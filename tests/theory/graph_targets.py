"""Targets that are no chains: blocks of every kind, and networks drawn from them, written without `theory`."""

import random

import torch
from small_cnns import noise
from torch import nn
from torch.nn import functional as F


class Skip(nn.Module):
    """A body added to what it reads, or to what a shortcut makes of that."""

    def __init__(self, body, shortcut=None):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + (x if self.shortcut is None else self.shortcut(x))


class Apart(nn.Module):
    """What a body reads without what it gives."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x - self.body(x)


class Beside(nn.Module):
    """A body's channels behind those that it reads."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return torch.cat([x, self.body(x)], dim=1)


class Call(nn.Module):
    """A function of tensors."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


class Shifted(nn.Module):
    """Buffers and numbers that scale an image."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, x):
        return 0.5 - (x - self.mean.view(1, -1, 1, 1)) / self.deviation[None, :, None, None].abs().add(0.5) * 1.5


def trained(module, seed=0):
    """Return a float64 module in eval mode, with values that a trained one could have."""
    for i, (name, tensor) in enumerate([*module.named_parameters(), *module.named_buffers()]):
        if tensor.is_floating_point():
            values = noise(*tensor.shape, seed=1000 * seed + i)
            size = 0.3 if tensor.dim() < 2 else tensor[0].numel() ** -0.5
            tensor.data = 0.5 + values.abs() if name.endswith("running_var") else size * values
    return module.double().eval()


def conv(inputs, outputs, taps=3, **options):
    return nn.Conv2d(inputs, outputs, taps, padding=taps // 2, **options)


HEAD = (nn.ReLU(), Call(lambda x: x.mean((2, 3))))
IMAGE = (2, 5, 4)
OPERATIONS = {
    "a sum with the input": (lambda: [Skip(conv(2, 2)), *HEAD, nn.Linear(2, 3)], IMAGE),
    "a sum behind a layer": (lambda: [conv(2, 3), nn.ReLU(), Skip(conv(3, 3)), nn.ReLU(), conv(3, 2)], IMAGE),
    "a shortcut of 1x1": (
        lambda: [conv(2, 3), nn.ReLU(), Skip(conv(3, 4, stride=2), nn.Conv2d(3, 4, 1, stride=2)), nn.ReLU()],
        IMAGE,
    ),
    "a tensor added to itself": (lambda: [conv(2, 2), Call(lambda x: x + x), nn.ReLU(), conv(2, 1)], IMAGE),
    "channels side by side": (lambda: [Beside(conv(2, 3)), nn.ReLU(), conv(5, 2)], IMAGE),
    "vectors side by side": (lambda: [Beside(nn.Linear(4, 3)), nn.ReLU(), nn.Linear(7, 2)], (4,)),
    "an average by mean": (lambda: [conv(2, 3), Call(lambda x: x.mean([-2, -1], keepdim=True)), conv(3, 2, 1)], IMAGE),
    "batch norm before a ReLU and a convolution": (
        lambda: [nn.BatchNorm2d(2), nn.ReLU(), conv(2, 3), nn.BatchNorm2d(3), nn.ReLU(), conv(3, 2)],
        IMAGE,
    ),
    "batch norm behind a ReLU": (lambda: [conv(2, 3), nn.ReLU(), nn.BatchNorm2d(3), conv(3, 2)], IMAGE),
    "batch norm of a sum": (lambda: [Skip(conv(2, 2)), nn.BatchNorm2d(2), nn.ReLU(), conv(2, 2)], IMAGE),
    "batch norm of what is read twice": (
        lambda: [conv(2, 2), Skip(nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), conv(2, 2)))],
        IMAGE,
    ),
    "batch norm of vectors behind a flattening": (
        lambda: [conv(2, 2, stride=2), nn.Flatten(), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 2)],
        IMAGE,
    ),
    "a scaled input": (lambda: [Shifted(2), conv(2, 3), nn.ReLU(), conv(3, 2)], IMAGE),
    "a factor behind a layer": (
        lambda: [nn.Linear(4, 3), Call(lambda x: -x / 3 + 1), nn.ReLU(), nn.Linear(3, 2)],
        (4,),
    ),
    "a depthwise convolution": (
        lambda: [conv(2, 4), nn.ReLU(), conv(4, 4, groups=4), nn.ReLU(), conv(4, 3, 1)],
        IMAGE,
    ),
    "groups that read signs": (lambda: [conv(4, 6, groups=2, stride=2), conv(6, 3, groups=3, bias=False)], (4, 5, 4)),
    "a leaky ReLU": (lambda: [conv(2, 3), nn.LeakyReLU(0.2), conv(3, 2), Call(lambda x: F.leaky_relu(x, 0.3))], IMAGE),
    "a difference": (lambda: [conv(2, 2), nn.ReLU(), Apart(nn.Sequential(conv(2, 2), nn.ReLU())), conv(2, 2)], IMAGE),
    "a difference of what is read twice": (lambda: [nn.Linear(4, 3), Call(lambda x: x.relu() - x)], (4,)),
    "a transposed convolution": (
        lambda: [
            nn.ConvTranspose2d(2, 4, 3, 2, padding=1, output_padding=1, groups=2, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 1, (2, 3), dilation=(1, 2)),
        ],
        (2, 3, 2),
    ),
    "a transposed convolution of sequences": (
        lambda: [nn.ConvTranspose1d(2, 3, 4, 2, padding=1), nn.BatchNorm1d(3), nn.ReLU(), nn.Conv1d(3, 1, 3)],
        (2, 4),
    ),
    "an image of a vector": (
        lambda: [nn.Linear(4, 12), Call(lambda x: x.view(-1, 2, 3, 2)), nn.BatchNorm2d(2), nn.ReLU(), conv(2, 1)],
        (4,),
    ),
    "an input as an image": (lambda: [nn.Unflatten(1, (2, 3, 2)), conv(2, 3), nn.ReLU(), conv(3, 1)], (12,)),
    "other names of a ReLU": (
        lambda: [nn.Linear(4, 3), nn.Threshold(0, 0), nn.Linear(3, 3), Call(lambda x: x.clamp(min=0)), nn.Linear(3, 2)],
        (4,),
    ),
    "sequences": (
        lambda: [
            nn.Conv1d(2, 3, 3, padding=1),
            nn.BatchNorm1d(3),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(3, 4, 2),
            nn.ReLU(),
            nn.AvgPool1d(2),
            Call(lambda x: x.mean(2)),
            nn.Linear(4, 2),
        ],
        (2, 9),
    ),
    "paddings that repeat": (
        lambda: [
            conv(2, 3, padding_mode="reflect"),
            nn.ReLU(),
            conv(3, 2, padding_mode="circular"),
            nn.ReLU(),
            conv(2, 2, padding_mode="replicate"),
        ],
        IMAGE,
    ),
    "two ways of one depth": (
        lambda: [conv(2, 2), Skip(nn.Sequential(nn.ReLU(), conv(2, 2)), conv(2, 2)), nn.MaxPool2d(2), conv(2, 2)],
        IMAGE,
    ),
}
"""Targets by what they show: what makes their modules, and the shape of one input."""


def operation(name, seed=0):
    """Return a target that shows an operation, and the shape of one input."""
    make, shape = OPERATIONS[name]
    return trained(nn.Sequential(*make()), seed), shape


def drawn(seed):
    """Return a network of a few random blocks, and the shape of one input."""
    draw, channels = random.Random(seed), 2
    modules = []
    for _ in range(draw.randint(1, 3)):
        block, channels = _block(draw, channels)
        modules += block
    head = [nn.Flatten(), nn.Linear(channels * 12, 2)]
    modules += draw.choice([[Call(lambda x: x.mean((2, 3))), nn.Linear(channels, 2)], head, []])
    return trained(nn.Sequential(*modules), seed), (2, 4, 3)


def _block(draw, channels):
    wide = draw.randint(1, 3)
    act = draw.choice([nn.ReLU, nn.ReLU, lambda: nn.LeakyReLU(0.1)])
    kind = draw.choice(["residual", "projected", "pre-activation", "cat", "depthwise", "pooled", "scaled", "plain"])
    norm = [nn.BatchNorm2d(channels)] if draw.random() < 0.5 else []
    if kind == "residual":
        body = nn.Sequential(conv(channels, wide), act(), conv(wide, channels, bias=draw.random() < 0.5), *norm)
        return [Skip(body), act()], channels
    if kind == "projected":
        body = nn.Sequential(conv(channels, wide), nn.BatchNorm2d(wide))
        return [Skip(body, nn.Conv2d(channels, wide, 1, bias=False)), act()], wide
    if kind == "pre-activation":
        return [Skip(nn.Sequential(nn.BatchNorm2d(channels), act(), conv(channels, channels)))], channels
    if kind == "cat":
        return [Beside(nn.Sequential(conv(channels, wide, 1), *draw.choice([[], [act()]])))], channels + wide
    if kind == "depthwise":
        return [conv(channels, channels * wide, groups=channels), act()], channels * wide
    if kind == "pooled":
        pool = draw.choice([nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1)])
        return [conv(channels, wide), pool, act()], wide
    if kind == "scaled":
        return [Shifted(channels), conv(channels, wide)], wide
    return [conv(channels, wide, padding_mode=draw.choice(["zeros", "reflect"])), act()], wide
