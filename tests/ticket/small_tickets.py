"""Small tickets with one of everything, and whether two are the same."""

import torch

from supermask.random.distributions import Fans, SignedConstant
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import RandomWeight, digest, grow_all
from supermask.ticket import Ticket

PRESET = Preset(20, 15)


def tiny(**changes):
    """Return a ticket with one of everything, in about a thousand bytes."""
    weights = {
        "w": RandomWeight((5, 3), SignedConstant(), Fans(3, 5), 0.5**-0.5),
        "v": RandomWeight((3,), SignedConstant(), Fans(3, 5)),
    }
    parts = {
        "seed": 1,
        "weights": weights,
        "masks": {"w": torch.arange(15).reshape(5, 3) % 2 == 0},
        "digest": digest(grow_all(weights, 1)),
        "learned": {"b": torch.tensor([1.0, -0.0, 3e-45]), "steps": torch.tensor(7)},
        "constants": {"c": 1.0},
        "bypassed": ("norm",),
        "provenance": {"model": "tiny", "größe": [1, 2.5, None]},
    }
    return Ticket(**{**parts, **changes})


def treated(seed=0, density=0.5, preset=PRESET, **changes):
    """Return a ticket with all treatments, and with a preset if one is given."""
    weights = {
        "w": RandomWeight((11, 7), SignedConstant(), Fans(7, 11)),
        "v": RandomWeight((4,), SignedConstant(), Fans(3, 5)),
    }
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(11, 7, generator=generator) < density
    presets = {}
    if preset is not None:
        free, locked = preset.grow(seed, "w", (11, 7))
        mask, presets = mask & free | locked, {"w": preset}
    factors = torch.randint(1, 4, mask.shape, generator=generator) * (
        1 - 2 * torch.randint(0, 2, mask.shape, generator=generator)
    )
    redraws = torch.randint(0, 5, mask.shape, generator=generator)
    treatment = Treatment(0.7, (factors * mask).to(torch.int8), (redraws * mask).to(torch.int32), True)
    parts = {
        "seed": seed,
        "weights": weights,
        "masks": {"w": mask, "v": torch.ones(4, dtype=torch.bool)},
        "digest": digest(grow_all(weights, seed)),
        "treatments": {"w": treatment, "v": Treatment(gain=2.0)},
        "presets": presets,
    }
    return Ticket(**{**parts, **changes})


def same(one, other):
    """Whether two tickets hold the same, bit for bit."""
    plain = ("seed", "weights", "digest", "constants", "bypassed", "provenance")
    return all(getattr(one, name) == getattr(other, name) for name in plain) and all(
        getattr(one, part).keys() == getattr(other, part).keys()
        and all(identical(tensor, getattr(other, part)[name]) for name, tensor in getattr(one, part).items())
        for part in ("masks", "learned")
    )


def identical(one, other):
    bits = [tensor.reshape(-1).view(torch.uint8).tolist() for tensor in (one, other)]
    return one.dtype == other.dtype and one.shape == other.shape and bits[0] == bits[1]
