"""Random targets of all kinds with all that a certificate depends on, and a search for errors above it."""

import copy
import math
import random
from dataclasses import dataclass

import torch
from graph_targets import Apart, Beside, Call, Shifted, Skip, trained
from small_cnns import noise
from torch import nn

from theory.domains import Around, Ball, Box, Domain, Nonnegative

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
CONVS = (nn.Linear, nn.Conv1d, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)
AVERAGES, LARGEST = (None, nn.AvgPool1d, nn.AvgPool2d), (None, nn.MaxPool1d, nn.MaxPool2d)
SHAPES = ((5,), (2, 6), (2, 4, 3))


@dataclass(frozen=True)
class Case:
    """A target, the inputs that count, and how it is built.

    Attributes:
        target: float64 module.
        kinds: the names of its blocks.
        shape: of one input.
        domain: of the inputs.
        norm: "l2" or "linf".
        dtype: in which the target and the network are run.
        options: further arguments of `construct`, epsilon among them.

    """

    target: nn.Module
    kinds: tuple[str, ...]
    shape: tuple[int, ...]
    domain: Domain
    norm: str
    dtype: torch.dtype
    options: dict


def drawn(seed):
    """Return the case of a seed."""
    draw = random.Random(seed)
    shape = SHAPES[seed % 3]
    target, kinds = _target(draw, shape, seed)
    dtype = draw.choice((torch.float64, *DTYPES))
    norm = draw.choice(("l2", "linf"))
    options = {
        "epsilon": 10.0 ** draw.uniform(-8.0, 1.0),
        "width": draw.choice((None, draw.randint(1, 8), draw.randint(9, 40))),
        "grouped": draw.random() < 0.5,
        "both_halves": draw.random() < 0.2,
        "calibrate": draw.random() < 0.15,
        "construction": "convolution",
    }
    return Case(target, tuple(kinds), shape, _domain(draw, shape, dtype, seed), norm, dtype, options)


def _domain(draw, shape, dtype, seed):
    """Return a domain whose bounds and points are numbers of the dtype."""
    radius = 10.0 ** draw.uniform(-2.0, 2.0)
    kind = draw.choice(("ball", "nonnegative", "box", "boxes", "around", "near"))
    if kind == "ball":
        return Ball(radius)
    if kind == "nonnegative":
        return Nonnegative(radius)
    low = (radius * noise(*shape, seed=seed)).to(dtype).double()
    if kind == "boxes":
        low = low.abs() if draw.random() < 0.5 else low
        return Box(low, (low + radius * noise(*shape, seed=seed + 1).abs()).to(dtype).double())
    if kind == "box":
        low, high = draw.choice(((0.0, 1.0), (-0.5, 0.25), (-1.0, 1.0), (0.25, 0.5)))
        return Box(low, high)
    points = (radius * noise(draw.randint(1, 5), *shape, seed=seed)).to(dtype).double()
    points = points.abs() if draw.random() < 0.3 else points
    return Around(points, 0.0 if kind == "around" else radius * 10.0 ** draw.uniform(-4.0, 0.5))


def _target(draw, shape, seed):
    """Return a network of a few blocks and their names; every other one is a chain."""
    modules, kinds, chain = [], [], draw.random() < 0.5
    for _ in range(draw.randint(1, 4)):
        now = tuple(nn.Sequential(*modules).double().eval()(torch.zeros(2, *shape, dtype=torch.float64)).shape[1:])
        names = [name for name in BLOCKS if name in CHAINS or not chain]
        kind = draw.choice(names)
        block = BLOCKS[kind](draw, now)
        if block is not None:
            modules += block
            kinds.append(kind)
    now = tuple(nn.Sequential(*modules).double().eval()(torch.zeros(2, *shape, dtype=torch.float64)).shape[1:])
    if len(now) > 1 and draw.random() < 0.6:
        flat = draw.random() < 0.5
        places = tuple(range(2, len(now) + 1))
        modules.append(nn.Flatten() if flat else Call(lambda x: x.mean(places)))
        modules.append(nn.Linear(math.prod(now) if flat else now[0], draw.randint(1, 3)))
    elif not any(isinstance(module, CONVS) for part in modules for module in part.modules()):
        modules += _plain(draw, now)
    return trained(nn.Sequential(*modules), seed), kinds


def layer(draw, shape, outputs, **options):
    """Return a layer for tensors of a shape, whose output has the same places."""
    kind = CONVS[len(shape) - 1]
    if kind is nn.Linear:
        options.pop("groups", None)
        return nn.Linear(shape[0], outputs, bias=draw.random() < 0.7)
    taps = draw.choice((1, 3)) if min(shape[1:]) > 1 else 1
    mode = draw.choice(("zeros", "zeros", "reflect", "circular", "replicate"))
    return kind(shape[0], outputs, taps, padding=taps // 2, padding_mode=mode, bias=draw.random() < 0.7, **options)


def _act(draw):
    return draw.choice((nn.ReLU(), nn.ReLU(), nn.LeakyReLU(draw.choice((0.01, 0.3)))))


def _norm(shape):
    return NORMS[len(shape) - 1](shape[0])


def _plain(draw, shape):
    return [layer(draw, shape, draw.randint(1, 4)), *([_act(draw)] if draw.random() < 0.8 else [])]


def _normed(draw, shape):
    outputs = draw.randint(1, 4)
    first = layer(draw, shape, outputs)
    order = [_norm((outputs, *shape[1:])), _act(draw)]
    return [first, *(order if draw.random() < 0.7 else reversed(order))]


def _strided(draw, shape):
    """A convolution without padding, or with another one on each side."""
    if len(shape) == 1:
        return None
    taps = tuple(draw.randint(1, min(3, side)) for side in shape[1:])
    steps = {name: tuple(draw.randint(1, 2) for _ in taps) for name in ("stride", "padding")}
    steps["padding"] = tuple(min(pad, tap // 2) for pad, tap in zip(steps["padding"], taps, strict=True))
    pads = [draw.randint(0, 2) for _ in range(2 * len(taps))]
    wide = [nn.ZeroPad2d(pads)] if len(taps) == 2 and draw.random() < 0.3 else []
    return [*wide, CONVS[len(taps)](shape[0], draw.randint(1, 3), taps, **steps), _act(draw)]


def _transposed(draw, shape):
    """A transposed convolution, which makes images larger."""
    if len(shape) == 1 or max(shape[1:]) > 6:
        return None
    steps, taps = (tuple(draw.randint(1, most) for _ in shape[1:]) for most in (2, 3))
    options = {
        "dilation": tuple(draw.randint(1, 2) for _ in taps),
        "padding": tuple(draw.randint(0, tap - 1) if tap < 3 else 1 for tap in taps),
        "output_padding": tuple(draw.randint(0, step - 1) for step in steps),
        "groups": draw.choice([g for g in (1, 1, 2, 3) if shape[0] % g == 0]),
        "bias": draw.random() < 0.5,
    }
    outputs = options["groups"] * draw.randint(1, 2)
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d)[len(taps) - 1]
    return [kind(shape[0], outputs, taps, steps, **options), *([_act(draw)] if draw.random() < 0.7 else [])]


def _imaged(draw, shape):
    """A vector as an image."""
    return [layer(draw, shape, 6), _act(draw), nn.Unflatten(1, (1, 2, 3))] if len(shape) == 1 else None


def _grouped(draw, shape):
    groups = shape[0] if draw.random() < 0.6 else draw.choice([g for g in (1, 2, 3) if shape[0] % g == 0])
    if len(shape) == 1 or shape[0] * 3 > 24:
        return None
    return [layer(draw, shape, groups * draw.randint(1, 2), groups=groups), _act(draw)]


def _pooled(draw, shape):
    if len(shape) == 1 or min(shape[1:]) < 2:
        return None
    averages = draw.random() < 0.5
    options = {"padding": draw.randint(0, 1), "ceil_mode": draw.random() < 0.3}
    if averages:
        options["count_include_pad"] = draw.random() < 0.5
    kind = (AVERAGES if averages else LARGEST)[len(shape) - 1]
    return [layer(draw, shape, draw.randint(1, 3)), kind(2, draw.randint(1, 2), **options), _act(draw)]


def _scaled(draw, shape):
    if len(shape) == 3 and draw.random() < 0.5:
        return [Shifted(shape[0]), *_plain(draw, shape)]
    factor, shift = draw.uniform(-2.0, 2.0), draw.uniform(-1.0, 1.0)
    return [Call(lambda x: x * factor + shift), *_plain(draw, shape)]


def _dead(draw, shape):
    """A layer whose first output is never above zero, and whose weights may all be zero."""
    first = layer(draw, shape, 2)
    nn.utils.parametrize.register_parametrization(first, "weight", Zeroed(draw.random() < 0.3))
    return [first, nn.ReLU()]


class Zeroed(nn.Module):
    """A weight that is zero in its first output, or everywhere."""

    def __init__(self, everywhere):
        super().__init__()
        self.everywhere = everywhere

    def forward(self, weight):
        return (
            weight * 0.0
            if self.everywhere
            else weight * (torch.arange(len(weight)) > 0).reshape(-1, *[1] * (weight.dim() - 1))
        )


def _residual(draw, shape):
    wide = draw.randint(1, 3)
    norm = [_norm(shape)] if draw.random() < 0.5 else []
    body = [layer(draw, shape, wide), _act(draw), layer(draw, (wide, *shape[1:]), shape[0]), *norm]
    return [Skip(nn.Sequential(*body)), *([_act(draw)] if draw.random() < 0.7 else [])]


def _projected(draw, shape):
    wide = draw.randint(1, 3)
    body = nn.Sequential(layer(draw, shape, wide), _norm((wide, *shape[1:])))
    return [Skip(body, layer(draw, shape, wide)), _act(draw)]


def _before(draw, shape):
    return [Skip(nn.Sequential(_norm(shape), _act(draw), layer(draw, shape, shape[0])))]


def _beside(draw, shape):
    if shape[0] > 6:
        return None
    body = [layer(draw, shape, draw.randint(1, 3)), *([_act(draw)] if draw.random() < 0.5 else [])]
    return [Beside(nn.Sequential(*body))]


def _twice(draw, shape):
    return [layer(draw, shape, 2), Call(lambda x: x + x), _act(draw)]


def _apart(draw, shape):
    wide = draw.randint(1, 3)
    return [Apart(nn.Sequential(layer(draw, shape, wide), _act(draw), layer(draw, (wide, *shape[1:]), shape[0])))]


CHAINS = {
    "a layer": _plain,
    "batch norm": _normed,
    "another size": _strided,
    "groups": _grouped,
    "a transposed convolution": _transposed,
    "an image of a vector": _imaged,
    "pooling": _pooled,
    "a scaled tensor": _scaled,
    "a dead unit": _dead,
}
BLOCKS = {
    **CHAINS,
    "a residual block": _residual,
    "a projected shortcut": _projected,
    "pre-activation": _before,
    "tensors side by side": _beside,
    "a tensor and itself": _twice,
    "a difference": _apart,
}
"""What makes the modules of a block for tensors of a shape, or None where it does not fit: chains, and what is none."""


def sizes(batch, norm):
    """Return the norm of each tensor, (batch,)."""
    rows = batch.flatten(1).double()
    return rows.abs().amax(dim=1) if norm == "linf" else torch.linalg.vector_norm(rows, dim=1)


def inside(domain, x, norm):
    """Return which inputs are in a domain, bool (batch,), but for the last bits of float64."""
    rows, most = x.flatten(1).double(), 1.0 + 1e-12
    if isinstance(domain, Box):
        low, high = (bound.expand(x.shape[1:]).flatten() for bound in (domain._low, domain._high))
        return ((rows >= low) & (rows <= high)).all(dim=1)
    if isinstance(domain, Around):
        apart = x.double()[:, None] - domain.points[None]
        near = sizes(apart.flatten(0, 1), norm).reshape(apart.shape[:2])
        # the points themselves are as exact as float64 is
        return (near <= domain.radius * most + 1e-15 * domain.points.abs().max()).any(dim=1)
    ball = sizes(x, norm) <= domain.radius * most
    return ball & (rows >= 0.0).all(dim=1) if isinstance(domain, Nonnegative) else ball


def run_apart(target, network, x, norm, dtype):
    """Return how far the two are apart on inputs, as they run in a dtype: (batch,)."""
    with torch.no_grad():
        runs = [copy.deepcopy(each).to(dtype)(x.to(dtype)).double() for each in (target, network)]
    return sizes(runs[0] - runs[1], norm)


def search(case, network, steps=8):
    """Return the largest difference found in a case's domain: samples, corners, axes, gradient ascent, in its dtype."""
    domain, norm, dtype = case.domain, case.norm, case.dtype
    ascends = domain.ascends_by(norm)
    x, axes = noise(16, *case.shape, seed=5), torch.eye(math.prod(case.shape), dtype=torch.float64)
    axes, ones = axes.reshape(-1, *case.shape)[:6], torch.ones(1, *case.shape, dtype=torch.float64)
    starts = torch.cat([3.0 * x, 3.0 * x.sign(), 0.3 * x[:8], axes, -axes, 0.0 * x[:5], ones, -ones])
    x, found = domain.project(starts, ascends), []
    for step in range(steps):
        at = domain.place(x).requires_grad_()
        apart = sizes(case.target(at) - network(at), norm)
        found.append(at.detach())
        (gradient,) = torch.autograd.grad(apart.sum(), at)
        lengths = gradient.flatten(1).norm(dim=1).clamp(min=1e-300).reshape(-1, *[1] * (x.dim() - 1))
        way = gradient.sign() if ascends == "linf" else gradient / lengths
        x = domain.project(x + 0.5 * (1.0 - step / steps) * way, ascends)
    tried = torch.cat(found)
    if dtype is not torch.float64:  # the nearest numbers of the dtype may lie outside
        x = torch.cat([tried, *([domain.place(0.98 * x)] if isinstance(domain, Around | Ball | Nonnegative) else [])])
        tried = x.to(dtype).double()
    tried = tried[inside(domain, tried, norm)]
    return float(run_apart(case.target, network, tried, norm, dtype).max()) if len(tried) else 0.0
