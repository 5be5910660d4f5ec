"""Training with every line in the open: what the methods that change their mask are held against."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supermask import data
from supermask.baselines.method import RunContext
from supermask.training import Recipe, train
from supermask.training.batches import Batches

CPU = torch.device("cpu")
SGD = Recipe(epochs=4, batch_size=64, learning_rate=0.05, weight_decay=1e-3)
ADAM = replace(SGD, optimizer="adam", learning_rate=0.003)
OPTIMIZERS = pytest.mark.parametrize("recipe", [SGD, ADAM], ids=["sgd", "adam"])


def lenet():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))


def work(recipe=SGD, *, density=0.3, seed=0, data_set=None, build=lenet, **options):
    """Return the work of a method: a small network on the synthetic set."""
    data_set = data_set or data.load("synthetic", seed=0)

    def loop(subject, recipe, **more):
        return train(subject, data_set, recipe, progress=False, **more)

    return RunContext(
        data=data_set, recipe=recipe, seed=seed, density=density, device=CPU, build=build, loop=loop, **options
    )


def flat(tensor):
    return tensor.detach().reshape(-1).tolist()


def shaped(values, like):
    return torch.tensor(values, dtype=like.dtype).view(like.shape)


class Plain:
    """A ticket's network with its masks, and an optimizer written out; `after` each step pruned weights are zero."""

    def __init__(self, work, ticket):
        self.recipe, self.total = work.recipe, work.steps
        self.model = ticket.apply(work.build())
        self.parameters = dict(self.model.named_parameters())
        self.masks = {name: mask.clone() for name, mask in ticket.masks.items()}
        self.first = {name: torch.zeros_like(tensor) for name, tensor in self.parameters.items()}
        self.second = {name: torch.zeros_like(tensor) for name, tensor in self.parameters.items()}
        self.batches = Batches(work.data, work.recipe, seed=work.seed, device=CPU)
        self.updates = 0

    def gradients(self, step):
        """Return the gradients of a step's batch by parameter name."""
        images, labels = self.batches.batch(step)
        loss = cross_entropy(self.model(images), labels)
        return dict(zip(self.parameters, torch.autograd.grad(loss, self.parameters.values()), strict=True))

    @torch.no_grad()
    def update(self, step, gradients):
        """Do a step of the optimizer."""
        self.updates += 1
        rate = self.recipe.rate(step, self.total)
        for name, weight in self.parameters.items():
            gradient = gradients[name] + self.recipe.weight_decay * weight
            if self.recipe.optimizer == "sgd":
                self.first[name] = self.recipe.momentum * self.first[name] + gradient
                weight -= rate * self.first[name]
            else:
                self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
                self.second[name] = 0.999 * self.second[name] + 0.001 * gradient**2
                size = (self.second[name] / (1 - 0.999**self.updates)).sqrt() + 1e-8
                weight -= rate * self.first[name] / (1 - 0.9**self.updates) / size
        self.silence()

    @torch.no_grad()
    def silence(self):
        for name, mask in self.masks.items():
            self.parameters[name][~mask] = 0.0


def watched(network):
    """Have a network keep what it is after each step; return the list that it is kept in."""
    seen = []
    step = network.step

    def watching():
        step()
        weights = {name: weight.clone() for name, weight in network.weights().items()}
        seen.append({"masks": network.masks(), "weights": weights, "complete": network.complete})

    network.step = watching
    return seen


def assert_as_plain(seen, plain, step):
    """Compare what a network was after a step with its plain version: the masks exactly, the weights closely."""
    for name, mask in plain.masks.items():
        assert torch.equal(seen[step]["masks"][name], mask), (step, name)
        torch.testing.assert_close(
            seen[step]["weights"][name], plain.parameters[name].detach(), rtol=1e-3, atol=2e-5, msg=f"{step} {name}"
        )


def counts(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}
