"""A search and a formula of it, trained side by side on the same batches, and how far apart they are.

The network, the loss and SGD of the formula are written out here: the search gives nothing but its first scores and its
frozen weights.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, linear

from supermask import data

STEPS, BATCH = 50, 128
MOMENTUM, DECAY = 0.9, 1e-4  # of the authors of edge-popup; most of the others took them over


@dataclass
class Differences:
    """The largest difference in any step.

    Attributes:
        output: relative to the largest output of the batch.
        gradient: of the scores, relative to the largest gradient in the layer.
        scores: absolute.
        entries: of the masks, with their signs or numbers of coats: how many differ, added up over the steps.
        moved: entries of the masks that the run has changed; where it is 0, nothing was compared.

    """

    output: float = 0.0
    gradient: float = 0.0
    scores: float = 0.0
    entries: int = 0
    moved: int = 0


def trained(search, formula, *, rate=0.1, decay=DECAY, penalty=None, after=None):
    """Train a search and a formula, and return their `Differences`.

    Args:
        search: over LeNet-300-100, not yet trained.
        formula: (name, scores, frozen) to the weight of a layer and the entries of its mask.
        rate: learning rate of the scores.
        decay: weight decay of the scores.
        penalty: the scores by layer to what is added to the loss.
        after: called after each step with its number, the scores and the frozen weights by layer; it may change both.

    """
    frozen = search.frozen_weights()
    scores = {name: score.detach().clone() for name, score in search.scores().items()}
    speeds = dict.fromkeys(scores)
    optimizer = torch.optim.SGD(search.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=decay)
    found, first = Differences(), entries(search)
    for step, (images, labels) in enumerate(batches(next(search.parameters()).dtype), 1):
        optimizer.zero_grad()
        output = search.model.train()(images)
        cross_entropy(output, labels).backward()
        search.before_step(optimizer)

        leaves = {name: score.requires_grad_() for name, score in scores.items()}
        made = {name: formula(name, score, frozen[name]) for name, score in leaves.items()}
        expected = perceptron(images, [weight for weight, _ in made.values()])
        loss = cross_entropy(expected, labels) + (penalty(leaves) if penalty else 0.0)
        slopes = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

        seen = entries(search)
        found.entries += sum(int((seen[name] != mask).sum()) for name, (_, mask) in made.items())
        found.output = max(found.output, relative(output, expected))
        gradients = {name: score.grad.clone() for name, score in search.scores().items()}
        found.gradient = max(found.gradient, *(relative(gradients[name], slope) for name, slope in slopes.items()))

        optimizer.step()
        search.step()
        for name, slope in slopes.items():
            scores[name], speeds[name] = descended(scores[name].detach(), slope, speeds[name], rate, decay)
        if after:
            after(step, scores, frozen)
        distances = [(score.detach() - scores[name]).abs().max() for name, score in search.scores().items()]
        found.scores = max(found.scores, *map(float, distances))
    last = entries(search)
    found.moved = sum(int((last[name] != before).sum()) for name, before in first.items())
    return found


def batches(dtype):
    """Yield images (batch, 1, 8, 8) and labels for each step: handwritten digits, which need no files, and noise."""
    digits = data.load("digits", validation=0)
    generator = torch.Generator().manual_seed(5)
    for _ in range(STEPS):
        chosen = digits.train.select(torch.randperm(len(digits.train), generator=generator)[:BATCH])
        pixels = (chosen.images / digits.scale - digits.mean[0]) / digits.std[0]
        # without the noise, weights of one magnitude and pixels of 17 values add up to exactly 0 in some units, where
        # the last bit decides whether a rectifier lets the gradient pass
        noise = torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
        yield (pixels + 0.1 * noise).to(dtype), chosen.labels


def perceptron(images, weights):
    """Return the logits of linear layers with rectifiers between them."""
    # biases of zero as in the searches, so that the products of matrices are the same to the bit
    *hidden, last = [(weight, weight.new_zeros(len(weight))) for weight in weights]
    images = images.flatten(1)
    for layer in hidden:
        images = linear(images, *layer).relu()
    return linear(images, *last)


def descended(score, slope, speed, rate, decay):
    """Return scores and their momentum after a step of SGD: L2 decay, momentum without dampening."""
    # added with a factor, and not as a product, so that it rounds as torch's own SGD does
    slope = slope.add(score, alpha=decay)
    speed = slope if speed is None else (MOMENTUM * speed).add(slope)
    return score.add(speed, alpha=-rate), speed


def entries(search):
    """Return by layer what the frozen weights are multiplied by: 0 or 1, a sign, or a number of coats."""
    factors = {name: treatment.factors for name, treatment in search.treatments().items()}
    return {name: mask if factors.get(name) is None else factors[name] for name, mask in search.masks().items()}


def relative(one, other):
    """Return the largest difference over the largest number; infinite where that is not a number."""
    gap = float((one - other).detach().abs().max() / other.detach().abs().max())
    return gap if math.isfinite(gap) else math.inf
