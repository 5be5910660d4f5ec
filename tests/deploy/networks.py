"""Small random masked networks in float64, and what each of their units is good for, found out by trying."""

import torch
from torch import nn


class Sum(nn.Module):
    """What a body makes of its input, added to the input or to what another makes of it."""

    def __init__(self, body, other=None):
        super().__init__()
        self.body, self.other = body, other or nn.Identity()

    def forward(self, x):
        return self.body(x) + self.other(x)


class Beside(nn.Module):
    """Two branches, their channels beside one another."""

    def __init__(self, left, right):
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x):
        return torch.cat([self.left(x), self.right(x)], 1)


@torch.no_grad()
def masked(model, density, seed, *, biases=0.6):
    """Give a model random weights with a mask, biases with some zeros, and statistics of batch norm."""
    generator = torch.Generator().manual_seed(seed)

    def rand(tensor):
        return torch.rand(tensor.shape, generator=generator, dtype=torch.float64)

    for name, tensor in model.double().state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.5 + rand(tensor))
        elif tensor.is_floating_point():
            kept = rand(tensor) < (density if tensor.ndim > 1 else biases)
            tensor.copy_(torch.where(kept, 2 * rand(tensor) - 1, 0.0))
    return model.eval()


def images(shape, count=6, seed=1):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def outputs_of_layers(model, x):
    found = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name, out.clone()))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return found


def axis(module):
    return 1 if isinstance(module, nn.Conv2d) else -1


@torch.no_grad()
def live_by_trying(model, x):
    """Return, by layer, which units change with the input, and which change the output when they are disturbed."""
    expected, found = model(x), {}
    for name, outputs in outputs_of_layers(model, x).items():
        module = model.get_submodule(name)
        rows = outputs.movedim(axis(module), 0)
        varies = (rows != rows[:, :1]).flatten(1).any(1)
        matters = torch.zeros(len(rows), dtype=torch.bool)
        for unit in range(len(rows)):
            for size in (-9.0, 9.0):

                def disturb(_, __, out, unit=unit, size=size, module=module):
                    out.movedim(axis(module), 0)[unit] += size
                    return out

                hook = module.register_forward_hook(disturb)
                matters[unit] |= bool((model(x) != expected).any())
                hook.remove()
        found[name] = (varies, matters)
    return found
