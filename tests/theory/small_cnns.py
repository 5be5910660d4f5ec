"""Small convolutional targets of all kinds, and what a pruned network is compared with, written without `theory`."""

import math

import torch
from torch import nn


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(*modules, seed=0):
    """Return a float64 target in eval mode: Gaussian weights that keep sizes, small biases, batch statistics."""
    target = nn.Sequential(*modules).double().eval()
    for i, (name, tensor) in enumerate([*target.named_parameters(), *target.named_buffers()]):
        if name.endswith("num_batches_tracked"):
            continue
        random = noise(*tensor.shape, seed=1000 * seed + i)
        if tensor.dim() > 1:
            tensor.data = random / math.sqrt(tensor[0].numel())
        else:
            tensor.data = 1.0 + random.abs() if name.endswith("running_var") else 0.3 * random
    return target


CNNS = {
    "a stride": (
        lambda: (nn.Conv2d(2, 2, 3, stride=(2, 1)), nn.ReLU(), nn.Conv2d(2, 2, 2, stride=2, bias=False)),
        (2, 8, 7),
    ),
    "padding": (
        lambda: (nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, (2, 3), padding=(0, 2)), nn.ReLU()),
        (1, 5, 4),
    ),
    "padding that is not the same on both sides": (
        lambda: (nn.ZeroPad2d((1, 0, 0, 2)), nn.Conv2d(1, 2, 2), nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(2, 1, 3)),
        (1, 4, 5),
    ),
    "dilation": (
        lambda: (nn.Conv2d(1, 2, 2, dilation=(2, 1)), nn.ReLU(), nn.Conv2d(2, 2, 2, dilation=2, stride=2, padding=1)),
        (1, 6, 6),
    ),
    "the largest of windows that overlap": (
        lambda: (
            nn.Conv2d(2, 2, 2), nn.MaxPool2d(3, 1, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 2, bias=False), nn.Flatten(),
            nn.Linear(18, 2),
        ),
        (2, 5, 5),
    ),
    "averages before the first layer and before a ReLU": (
        lambda: (
            nn.AvgPool2d(2, 1), nn.Conv2d(1, 2, 2), nn.AvgPool2d(2, 2, padding=1, count_include_pad=False), nn.ReLU(),
            nn.Flatten(), nn.Linear(8, 3),
        ),
        (1, 5, 5),
    ),
    "adaptive pooling": (
        lambda: (
            nn.Conv2d(1, 2, 2), nn.ReLU(), nn.AdaptiveMaxPool2d((3, 4)), nn.Conv2d(2, 3, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2),
        ),
        (1, 6, 5),
    ),
    "batch norm": (
        lambda: (
            nn.Conv2d(1, 3, 2, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(3, 2, 2, padding=1), nn.BatchNorm2d(2),
        ),
        (1, 5, 5),
    ),
    "a grouped convolution": (
        lambda: (nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Conv2d(4, 4, 2, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1, groups=2)),
        (2, 4, 4),
    ),
    "like LeNet-5": (
        lambda: (
            nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2),
        ),
        (1, 10, 10),
    ),
    "like conv2": (
        lambda: (
            nn.Conv2d(3, 2, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False),
        ),
        (3, 6, 6),
    ),
}  # fmt: skip
"""Each with the shape of its inputs."""


def cnn(name, *, seed=0):
    """Return one of CNNS, and the shape of its inputs."""
    modules, shape = CNNS[name]
    return filled(*modules(), seed=seed), shape


def names_of_pairs(built):
    names = [name.removesuffix(".weight") for name in built.ticket.masks if name.endswith(".weight")]
    return list(zip(names[::2], names[1::2], strict=True))


def written_out(weight, groups):
    """Return (outputs, inputs / groups, ...) as (outputs, inputs, ...), zero between the groups."""
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    full = weight.new_zeros(weight.shape[0], columns * groups, *weight.shape[2:])
    for group in range(groups):
        own = slice(group * rows, (group + 1) * rows)
        full[own, group * columns : (group + 1) * columns] = weight[own]
    return full


def hops(built, first, second, *, inputs, groups=1):
    """Return a pair's first hop (hidden, inputs), the constant of its hidden units, and its second hop.

    From the ticket alone: its random weights times its masks. Blocks and groups are written out with zeros.
    """
    grown = built.ticket.random_weights()
    kept = {name: grown[name].double() * mask for name, mask in built.ticket.masks.items()}
    into, out = kept[f"{first}.weight"].flatten(1), kept[f"{second}.weight"]
    constant = kept.get(f"{first}.bias", torch.zeros(len(into), dtype=torch.float64))
    if groups > 1:
        return written_out(into, groups), constant, written_out(out, groups)
    if f"{first}.bias" in kept or into.shape[1] > 1:
        return into, constant, out
    width = built.widths[names_of_pairs(built).index((first, second))]
    whole = torch.zeros(len(into), inputs + 1, dtype=torch.float64)
    units = torch.arange(len(into))
    whole[units, units // width] = into[:, 0]
    return whole[:, :inputs], whole[:, inputs], out


def inputs_of(layer):
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def effective_weights(built, target):
    """Return per layer (P, N, c), added up path by path: P * x+ + N * x- + c is what its pair computes."""
    layers = [module for module in target if isinstance(module, nn.Linear | nn.Conv2d)]
    found = []
    for layer, names in zip(layers, names_of_pairs(built), strict=True):
        into, constant, out = hops(built, *names, inputs=inputs_of(layer), groups=getattr(layer, "groups", 1))
        up, down = (torch.einsum("oh...,hi->oi...", out, half) for half in (into.relu(), (-into).relu()))
        per_unit = out if out.dim() == 2 else out.sum(dim=(2, 3))  # a unit of constant value is seen by every tap
        found.append((up, down, per_unit @ constant.relu()))
    return found


def algebra(built, target, x):
    """Run x through the effective weights; batch norm is part of them."""
    remaining = iter(effective_weights(built, target))
    for module in target:
        if isinstance(module, nn.BatchNorm2d):
            continue
        if not isinstance(module, nn.Linear | nn.Conv2d):
            x = module(x)
            continue
        up, down, constant = next(remaining)
        if isinstance(module, nn.Linear):
            x = x.relu() @ up.T + (-x).relu() @ down.T + constant
            continue
        options = {"stride": module.stride, "padding": module.padding, "dilation": module.dilation}
        x = nn.functional.conv2d(x.relu(), up, **options) + nn.functional.conv2d((-x).relu(), down, **options)
        x = x + constant[:, None, None]
    return x


def sizes_of(batch, norm):
    rows = batch.flatten(1)
    return rows.abs().amax(dim=1) if norm == "linf" else rows.norm(dim=1)


def into_ball(x, radius, norm):
    if norm == "linf":
        return x.clamp(-radius, radius)
    sizes = sizes_of(x, norm).clamp(min=1e-300).reshape(-1, *[1] * (x.dim() - 1))
    return x * (radius / sizes).clamp(max=1.0)


def attack(target, network, shape, *, radius, norm, seed, steps=15):
    """Return the largest difference seen between two modules: at random, on pixels, on corners, by gradient ascent."""
    count = math.prod(shape)
    x, pixels = noise(80, count, seed=seed), torch.eye(count, dtype=torch.float64)
    flat = torch.ones(1, count, dtype=torch.float64)
    starts = [10.0 * x, 0.2 * x, 10.0 * x.sign(), pixels, -pixels, 0.0 * flat, flat, -flat]
    x = into_ball(radius * torch.cat(starts).reshape(-1, *shape), radius, norm)
    largest = 0.0
    for _ in range(steps):
        x.requires_grad_()
        differences = sizes_of(target(x) - network(x), norm)
        largest = max(largest, float(differences.detach().max()))
        (gradient,) = torch.autograd.grad(differences.sum(), x)
        if norm == "linf":
            step = gradient.sign()
        else:
            step = gradient / sizes_of(gradient, norm).clamp(min=1e-300).reshape(-1, *[1] * len(shape))
        x = into_ball(x.detach() + 0.2 * radius * step, radius, norm)
    return largest
