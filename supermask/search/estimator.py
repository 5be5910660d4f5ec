"""Gradients from forward passes alone: node perturbation, with feedback that is learned from its own noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from supermask.errors import SupermaskError
from supermask.parameters.parameters import Slot
from supermask.random.keyed import keyed_bytes, keyed_permutation
from supermask.search.passes import Layer, Passes
from supermask.training.processes import Processes


@dataclass(frozen=True)
class Noise:
    """What is added to the outputs of a layer, and how the answers are read.

    Attributes:
        directions: noisy forward passes for a layer: its units are divided at random into so many parts, and each pass
            has noise on one of them.
        size: of the noise on a unit, over the root mean square of the layer's outputs.
        rate: of learning the feedback; 0 learns none.

    """

    directions: int
    size: float
    rate: float


@dataclass
class Estimator:
    """Estimates the gradients of the parameters of linear layers and convolutions, for one batch after another.

    The gradient of the loss by the logits is softmax minus one-hot, which is that of a last layer. For another layer,
    noise of random sign and size s is added to the outputs of a part of its units, for each example by itself, and
    the network is run again from there. The change of the logits over s, times the gradient of the loss by the logits,
    is the slope of the example's loss along the noise; slope x sign estimates the gradient of each unit of the part
    (node perturbation: Widrow & Lehr 1990, Madaline rule III; Fiete & Seung 2006, eq. 9). It has no bias but that of
    a finite s, since signs of different units are independent and those of one unit multiply to 1. Each part has
    other units than the next, so that with as many directions as units nothing is left to chance.

    The variance is that of the other units of the part. What feedback predicts of it is taken off before: a matrix F
    (units, classes) for outputs above 0 and one for the others predicts a change of the logits, and the estimate is

        F g + sign x (slope - predicted slope),    g: the gradient of the loss by the logits.

    F is learned from the noise of earlier batches, by the delta rule, so that it does not change what is estimated
    (node perturbation that learns feedback: Lansdell, Prakash & Kording 2020; there F g is used in place of the
    estimate). Two matrices, since a unit with a ReLU or the like behind it counts only above 0.

    Attributes:
        seed: of the noise, which is drawn from (seed, layer, step).
        noise: how much, and how often.
        feedback: by layer, (2, units, classes).
        forward_passes: examples x passes, each counted as a whole one.
        multiply_adds: examples x the multiply-adds that the linear layers and convolutions really did.

    """

    seed: int
    noise: Noise
    feedback: dict[str, Tensor] = field(default_factory=dict)
    forward_passes: int = 0
    multiply_adds: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes."""
        counts = {"forward_passes": self.forward_passes, "multiply_adds": self.multiply_adds}
        return {**counts, "feedback": dict(self.feedback)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.forward_passes, self.multiply_adds = state["forward_passes"], state["multiply_adds"]
        # copies: the feedback is changed in place
        self.feedback = {name: tensor.clone() for name, tensor in state["feedback"].items()}

    @torch.no_grad()
    def gradients(
        self, passes: Passes, labels: Tensor, slots: Mapping[str, Slot], step: int, processes: Processes
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, and the gradient by the weights or biases of each slot.

        Args:
            passes: of the network over this process's share of the batch.
            labels: int64 (batch,).
            slots: the parameters that are trained, by name.
            step: the noise is that of this step.
            processes: that share the batch.

        Returns:
            The mean cross-entropy over this process's share, and by name the gradients of the mean over the batch.

        Raises:
            SupermaskError: a parameter is not that of a linear layer or a convolution that the pass has called.

        """
        read = _read_by(passes, slots)
        total = round(processes.sum(len(labels))[0])
        probabilities = passes.logits.softmax(1)
        error = probabilities - one_hot(labels, probabilities.shape[1]).to(probabilities)
        found: dict[str, Tensor] = {}
        for layer, leaves in read.items():
            call = passes.calls[layer]
            last = call.output is passes.logits
            slope = error if last else self._slope(passes, layer, error, _Share(step, total, processes))
            for leaf, name in leaves.items():
                product = call.bias_gradient(slope) if leaf == "bias" else call.weight_gradient(slope)
                found[name] = found[name] + product if name in found else product  # a tied one has several layers
        self.forward_passes += total * passes.passes
        self.multiply_adds += total * passes.multiply_adds
        means = {name: processes.total(product) / total for name, product in found.items()}
        return cross_entropy(passes.logits, labels), means

    def _slope(self, passes: Passes, layer: str, error: Tensor, share: "_Share") -> Tensor:
        """Return an estimate of the gradient of each example's loss by the outputs of a layer, of their shape.

        Args:
            passes: of the network over the batch.
            layer: its name.
            error: gradient of each example's loss by its logits (batch, classes).
            share: of the batch.

        """
        whole = passes.calls[layer].output
        output = whole.flatten(1)
        count, parts = output.shape[1], min(self.noise.directions, output.shape[1])
        size = self.noise.size * share.scale(output)
        signs = self._signs(layer, output, share)
        # the units part after part, so that what follows reads slices
        order = torch.from_numpy(keyed_permutation(count, self.seed, "parts", layer, share.step)).to(output.device)
        signs_of, above = signs[:, order], output[:, order] > 0.0
        sides = torch.stack([above, ~above]).to(output)
        feedback = self._feedback(layer, output, error)
        expected = feedback[:, order]
        slope = ((error @ expected.mT) * sides).sum(0)
        learned = torch.zeros_like(expected)
        for part in _slices(count, parts):
            chosen = torch.zeros(count, device="cpu").to(output)
            chosen[order[part]] = size
            noisy = torch.addcmul(output, signs, chosen)
            change = (passes.changed(layer, noisy.view_as(whole)) - passes.logits) / size
            own, marked = signs_of[:, part], sides[:, :, part] * signs_of[:, part]
            # what the feedback did not predict
            rest = change - torch.einsum("sbu,suc->bc", marked, expected[:, part])
            slope[:, part] += own * (rest * error).sum(1, keepdim=True)
            learned[:, part] = torch.einsum("sbu,bc->suc", marked, rest)
        if self.noise.rate:
            feedback[:, order] += self.noise.rate / share.total * share.processes.total(learned)
        found = torch.empty_like(output)
        found[:, order] = slope
        return found.view_as(whole)

    def _feedback(self, layer: str, output: Tensor, error: Tensor) -> Tensor:
        shape = (2, output.shape[1], error.shape[1])
        there = self.feedback.get(layer)
        if there is None or not self.noise.rate:
            there = torch.zeros(shape, device="cpu")
        there = there.to(output)
        if self.noise.rate:
            self.feedback[layer] = there
        return there

    def _signs(self, layer: str, output: Tensor, share: "_Share") -> Tensor:
        """Return +1 or -1 for each example of the share and each unit; those of the whole batch are drawn."""
        count = share.total * output.shape[1]
        drawn = keyed_bytes((math.ceil(count / 8),), self.seed, "signs", layer, share.step)
        signs = np.unpackbits(drawn)[:count].reshape(share.total, -1)[share.processes.share(share.total)]
        return torch.from_numpy(signs).to(output).mul_(2.0).sub_(1.0)


def _slices(count: int, parts: int) -> list[slice]:
    """Return slices of so many parts of `count` things, whose sizes differ by one at most."""
    ends = [count * part // parts for part in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


@dataclass(frozen=True)
class _Share:
    """A process's share of a batch of a step, of `total` examples."""

    step: int
    total: int
    processes: Processes

    def scale(self, output: Tensor) -> float:
        """Return the root mean square of a layer's outputs over the whole batch, or 1 where all are 0."""
        square = self.processes.sum(float(output.double().square().sum()))[0]
        return math.sqrt(square / (self.total * output.shape[1])) or 1.0


def _read_by(passes: Passes, slots: Mapping[str, Slot]) -> dict[str, dict[str, str]]:
    """Return by layer, in the order of the calls, what it reads: the name of a parameter by that of its leaf."""
    names = {id(call.module): name for name, call in passes.calls.items()}
    read: dict[str, dict[str, str]] = {name: {} for name in passes.calls}
    for name, slot in slots.items():
        for module, leaf in slot.places:
            if not isinstance(module, Layer) or id(module) not in names:
                raise SupermaskError(
                    f"{name} is read by {type(module).__name__}, past what noise reaches; without a backward pass only"
                    " the parameters of nn.Linear and nn.Conv2d modules that the network calls are trained: name it in"
                    " dense=."
                )
            read[names[id(module)]][leaf] = name
    return {layer: leaves for layer, leaves in read.items() if leaves}
