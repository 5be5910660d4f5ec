"""Small networks and tasks for the tests of superposition."""

from functools import lru_cache

import torch
from torch import nn

from supermask import EdgePopup
from supermask.data.synthetic import read_synthetic
from supermask.data.tasks import permuted
from supermask.superposition import Learner, Superposition
from supermask.training import Recipe

TASKS = 4
RECIPE = Recipe(epochs=12, batch_size=50, optimizer="adam", learning_rate=3e-3, weight_decay=0.0)


def small():
    """A network of one hidden layer with superfluous outputs."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 30))


def normed():
    """A small convolutional network with batch norm."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 30),
        nn.BatchNorm1d(30),
    )


def any_tickets(build, count=3, seed=0, **options):
    """Tickets of arbitrary masks over one random network, with statistics that differ."""
    tickets = []
    for task in range(count):
        search = EdgePopup(build(), density=0.5, seed=seed, **options)
        generator = torch.Generator().manual_seed(task)
        with torch.no_grad():
            for scores in search.scores().values():
                scores.copy_(torch.rand(scores.shape, generator=generator))
            for name, buffer in search.model.named_buffers():
                if "running" in name:
                    buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        search.step()
        tickets.append(search.ticket(task=task))
    return tickets


def taught(*normalisation):
    """A network that is large enough to tell the tasks apart."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 100), *normalisation, nn.ReLU(), nn.Linear(100, 60))


def learn_all(model):
    """Permutations of the synthetic data, and the superposition that learned them."""
    data = read_synthetic(train=1000, test=200)
    learner = Learner(model)
    for task in range(TASKS):
        learner.learn(permuted(data, task), RECIPE, seed=task, progress=False)
    return data, learner.superposition


@lru_cache
def learned_tasks():
    """Not to be changed."""
    return learn_all(taught())


@lru_cache
def learned_with_statistics():
    """The same with batch norm; not to be changed."""
    return learn_all(taught(nn.BatchNorm1d(100)))


def examples_of(data, count):
    """The test examples of each task, as the network takes them."""
    parts = []
    for task in range(count):
        own = permuted(data, task)
        examples = own.test()
        parts.append((own.normalize(examples.images), examples.labels))
    return parts


def weights_of(superposition: Superposition):
    """A copy of all tensors of the model."""
    return {name: tensor.clone() for name, tensor in superposition.model.state_dict().items()}


def slow_gradient(superposition, inputs, alphas, objective, step=1e-5):
    """The derivative of the mean objective in each coefficient, by central differences."""
    found = []
    for task in range(len(alphas)):
        moved = torch.zeros_like(alphas)
        moved[task] = step
        ends = [objective(superposition.superposed(inputs, alphas + sign * moved)).mean() for sign in (1, -1)]
        found.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(found)
