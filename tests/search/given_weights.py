"""A model with trained statistics, and searches over its weights."""

import torch
from torch import nn

from supermask import Given
from supermask.search import SEARCHES

INPUTS = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(9) % 3
OPTIONS = {"gem_miner": {"steps": 8, "freeze_every": 2}, "gates": {"steps": 8}, "structured": {}, "learned": {}}
OPTIONS["coded"] = {"bytes": 2000, "steps": 4, "memory": 6}
TAKE = {name: search for name, search in SEARCHES.items() if not search.kind.not_given}


class Net(nn.Module):
    """A tied pair, a normalisation with statistics, a parameter that is not a weight, a head."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.other.weight = self.one.weight
        self.token = nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        hidden = self.norm(self.fc(inputs)).relu() + self.token
        return self.head(self.other(self.one(hidden).relu()).relu())


def pretrained(seed=0):
    """Return a model with trained statistics."""
    torch.manual_seed(seed)
    model = Net()
    model(INPUTS)
    return model


def tensors(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def advance(search, steps=4):
    optimizer = torch.optim.SGD(search.parameters(), lr=0.3, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(search.model(INPUTS), LABELS).backward()
        search.before_step(optimizer)
        optimizer.step()
        search.step()
    return search


def searched(name="edge_popup", model=None, **options):
    kind = TAKE[name]
    if "density" in kind.__signature__.parameters:
        options = {"density": 0.4, **options}
    return kind(model or pretrained(), weights=Given("net"), **{**OPTIONS.get(name, {}), **options})
