"""Perturbations of an early state (Frankle, Schwab & Morcos 2020, "The early phase of neural network training").

A pruned network at step k of its training is changed in one respect and then trained on. What it loses says whether
that respect matters: the signs, the magnitudes, where the weights are, or their exact values. Only weights that the
mask keeps take part, and pruned ones are zero. The other tensors of a state, such as biases and batch norm, are left
to the caller.

Each perturbation is checked after it was made, as controls are: a permutation in which nothing moved is refused.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from supermask.errors import SupermaskError
from supermask.random.keyed import keyed_generator, keyed_permutation
from supermask.random.weights import checked_seed

State = Mapping[str, Tensor]
"""Weights by name; other tensors in it are not read."""

Of = Literal["k", "0"]
"""Which state: that of step k, or the initial one."""

_TRIES = 64  # permutations of a small layer that may all leave it as it was: a chance of 2^-64 at the most


@dataclass(frozen=True)
class Survivors:
    """The kept weights of one layer, in the order of their flat index.

    Attributes:
        name: of the layer.
        early: at step k, of shape (n,).
        initial: at the initialisation, of shape (n,).
        filters: the output channel (index of dimension 0) of each, int64 (n,).
        sigma: standard deviation of all initial weights of the layer, pruned ones included.

    """

    name: str
    early: Tensor
    initial: Tensor
    filters: Tensor
    sigma: float

    def __len__(self) -> int:
        return len(self.early)


Network = list[Survivors]
Values = list[Tensor]
"""New values of the survivors, by layer."""


@dataclass(frozen=True)
class Perturbation(ABC):
    """One way to change the surviving weights of an early state."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it does, in words joined by underscores."""

    def __call__(self, early: State, initial: State, masks: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Return the perturbed weights by name: new tensors with pruned places zero, for the layers that have a mask.

        Args:
            early: weights at step k; left as they are.
            initial: weights at the initialisation, whole: a pruned weight has its initial value here and not zero,
                for the spread of a layer is measured of all of them.
            masks: bool, by name; those of the ticket.
            seed: of what is drawn. A layer's draws depend on its name and not on the order of the layers, but in a
                permutation of the whole network.

        Raises:
            SupermaskError: a state lacks a layer, or holds one of another shape or a number that is not finite; or the
                perturbation did not change what it says, or changed what it must keep.

        """
        network = _survivors(early, initial, masks)
        made = self.make(network, checked_seed(seed))
        perturbed = {name: torch.zeros_like(early[name]) for name in masks}
        for layer, values in zip(network, made, strict=True):
            perturbed[layer.name][masks[layer.name].to(early[layer.name].device)] = values.to(early[layer.name])
        self._check(network, perturbed, masks)
        return perturbed

    @abstractmethod
    def make(self, network: Network, seed: int) -> Values:
        """Return new values of the survivors, which are then checked."""

    @abstractmethod
    def problem(self, network: Network, made: Values) -> str:
        """Return what is wrong with values that were made; nothing if they are what the name says."""

    def _check(self, network: Network, perturbed: State, masks: Mapping[str, Tensor]) -> None:
        # read back from the tensors that the caller gets, so that writing them is checked too
        made = [perturbed[layer.name].cpu()[masks[layer.name].cpu()] for layer in network]
        pruned = [name for name, mask in masks.items() if bool(perturbed[name].cpu()[~mask.cpu()].any())]
        problem = f"gave pruned weights of {', '.join(pruned)} a value" if pruned else self.problem(network, made)
        if problem:
            raise SupermaskError(f"The perturbation {self.name} {problem}; its results would mean nothing.")


@dataclass(frozen=True)
class Recombined(Perturbation):
    """The signs of one state with the magnitudes of another (figure 4 of the paper).

    A weight that is exactly zero counts as positive, so that the magnitudes are always kept.

    Attributes:
        signs: the state that gives the signs.
        magnitudes: the state that gives the magnitudes.

    """

    signs: Of
    magnitudes: Of

    def __post_init__(self) -> None:
        if not {self.signs, self.magnitudes} <= {"k", "0"}:
            raise SupermaskError(f"{self} names another state than 'k' and '0'; name one of these for each.")

    @property
    def name(self) -> str:
        """What it does."""
        return f"signs_of_{self.signs}_magnitudes_of_{self.magnitudes}"

    def make(self, network: Network, seed: int) -> Values:
        """Put the signs on the magnitudes; nothing is drawn."""
        return [_of(layer, self.magnitudes).abs() * _signs(_of(layer, self.signs)) for layer in network]

    def problem(self, network: Network, made: Values) -> str:
        """Compare signs and magnitudes with those of their states."""
        for layer, values in zip(network, made, strict=True):
            magnitudes = _of(layer, self.magnitudes).abs().to(values)
            if not torch.equal(values.abs(), magnitudes):
                return f"has other magnitudes than those of {self.magnitudes} in {layer.name}"
            there = magnitudes > 0  # zero shows no sign
            if not torch.equal(_signs(values)[there], _signs(_of(layer, self.signs)).to(values)[there]):
                return f"has other signs than those of {self.signs} in {layer.name}"
        return ""


@dataclass(frozen=True)
class Permuted(Perturbation):
    """The weights of step k in other places (figures 5 and 6 of the paper).

    The permutation is uniform among all that move something: in each layer where two weights that may change places
    differ, or, within the network, anywhere. A single filter may stay as it is, and one with a single survivor does.

    Attributes:
        within: what a weight stays in: its filter (all weights of one output channel), its layer, or the network.
        equal_signs: whether a weight only moves to the place of one with its own sign (zero being a sign too).

    """

    within: Literal["filters", "layers", "network"]
    equal_signs: bool = False

    def __post_init__(self) -> None:
        if self.within not in ("filters", "layers", "network"):
            raise SupermaskError(f"within={self.within!r} is not known; give 'filters', 'layers' or 'network'.")

    @property
    def name(self) -> str:
        """What it does."""
        return f"permuted_in_{self.within}{'_by_sign' if self.equal_signs else ''}"

    def make(self, network: Network, seed: int) -> Values:
        """Permute the survivors."""
        sizes = [len(layer) for layer in network]
        if self.within != "network":
            keys = self._keys(network)
            named = zip(network, keys, strict=True)
            return [_moved(layer.early, key, seed, self.name, layer.name) for layer, key in named]
        return list(_moved(_pool(network), torch.cat(self._keys(network)), seed, self.name).split(sizes))

    def problem(self, network: Network, made: Values) -> str:
        """Compare the values of each filter, layer or network, sorted, and say what did not move."""
        keys, before = self._keys(network), [layer.early for layer in network]
        names = [layer.name for layer in network]
        if self.within == "network":
            keys, before, made = [_joined(keys)], [_joined(before)], [_joined(made)]
            names = ["the network"]
        for name, key, old, new in zip(names, keys, before, made, strict=True):
            if not torch.equal(_sorted(key, old), _sorted(key, new.to(old))):
                return f"has other weights in a part of {name} than before"
            if self.equal_signs and not torch.equal(old.sign(), new.to(old).sign()):
                return f"has other signs in {name}"
            if _movable(old, key) and torch.equal(old, new.to(old)):
                return f"moved nothing in {name}, where it could have"
        return ""

    def _keys(self, network: Network) -> Values:
        """Return what two weights must share to change places: int64, by layer."""
        keys = [layer.filters if self.within == "filters" else torch.zeros_like(layer.filters) for layer in network]
        signs = [layer.early.sign().long() + 1 if self.equal_signs else 0 for layer in network]
        return [3 * key + sign for key, sign in zip(keys, signs, strict=True)]


@dataclass(frozen=True)
class Noised(Perturbation):
    """The weights of step k with Gaussian noise (figure 7 of the paper): N(0, (deviations * sigma)^2) by layer.

    Sigma is the standard deviation of the initial weights of the layer; a layer without any spread gets no noise. Two
    levels under one seed have the same noise but for its size.

    Attributes:
        deviations: of the noise, in sigmas of the layer.

    """

    deviations: float

    def __post_init__(self) -> None:
        if not 0.0 < self.deviations < math.inf:
            raise SupermaskError(f"deviations={self.deviations} is out of range; give a positive number of sigmas.")

    @property
    def name(self) -> str:
        """What it does."""
        return f"noise_{self.deviations:g}"

    def make(self, network: Network, seed: int) -> Values:
        """Add the noise."""
        drawn = [
            keyed_generator(seed, "perturbation", "noise", each.name).standard_normal(len(each)) for each in network
        ]
        pairs = zip(network, drawn, strict=True)
        # in float64, so that the sum is rounded once
        return [each.early.double() + self.deviations * each.sigma * torch.from_numpy(z) for each, z in pairs]

    def problem(self, network: Network, made: Values) -> str:
        """Compare the spread of what was added, over all layers, with the one asked for.

        Noise of the right spread is refused by chance less than once in a million times.
        """
        pairs = [(layer, values.double()) for layer, values in zip(network, made, strict=True) if layer.sigma]
        added = torch.cat([torch.empty(0).double(), *((new - old.early.double()) / old.sigma for old, new in pairs)])
        if not len(added):
            return ""
        measured = math.sqrt(float(added.square().mean()))
        # the weights are stored with an error of their own, which is all that a tiny noise leaves
        stored = max(
            float(new.abs().max()) / old.sigma * torch.finfo(old.early.dtype).eps for old, new in pairs if len(old)
        )
        if abs(measured - self.deviations) <= self.deviations * 6 / math.sqrt(2 * len(added)) + stored:
            return ""
        return f"added noise of {measured:.3g} sigmas"


def effective_deviation(perturbed: State, early: State, initial: State, masks: Mapping[str, Tensor]) -> float:
    """Return the size of a perturbation: the standard deviation over survivors of (W' - W_k) / sigma (figure 8).

    Sigma is the standard deviation of the initial weights of the layer that a weight is in.

    Args:
        perturbed: weights by name.
        early: weights at step k.
        initial: weights at the initialisation, whole.
        masks: bool, by name.

    Raises:
        SupermaskError: as a perturbation raises it of its states; no weight survives; or weights differ in a layer
            whose initial weights are all equal.

    """
    changes = []
    for old, new in zip(_survivors(early, initial, masks), _survivors(perturbed, initial, masks), strict=True):
        change = new.early.double() - old.early.double()
        if not old.sigma and bool(change.any()):
            raise SupermaskError(
                f"The initial weights of {old.name} are all equal, so that no change has a size there."
            )
        changes.append(change / (old.sigma or 1.0))
    found = _joined(changes)
    if not len(found):
        raise SupermaskError("The masks keep no weight, so that a perturbation has no size; give those of a ticket.")
    return float(found.std(correction=0))


def signs_changed(first: State, second: State, masks: Mapping[str, Tensor]) -> float:
    """Return the fraction of the survivors with another sign in the second state; zero is a sign of its own.

    Raises:
        SupermaskError: as a perturbation raises it of its states, or no weight survives.

    """
    network = _survivors(first, second, masks)
    differ = _joined([layer.early.sign() != layer.initial.sign() for layer in network])
    if not len(differ):
        raise SupermaskError("The masks keep no weight, so that no sign can change; give those of a ticket.")
    return float(differ.double().mean())


def _survivors(early: State, initial: State, masks: Mapping[str, Tensor]) -> Network:
    """Return the survivors of each layer that has any place, on the CPU."""
    for name, mask in masks.items():
        for what, state in (("early", early), ("initial", initial)):
            if name not in state or state[name].shape != mask.shape:
                raise SupermaskError(f"The {what} state has no weights of the shape of the mask of {name}.")
            if not bool(state[name].isfinite().all()):
                raise SupermaskError(f"The {what} weights of {name} hold NaN or infinity; give a state without them.")
    return [_layer(name, early[name].detach().cpu(), initial[name].detach().cpu(), masks[name].cpu()) for name in masks]


def _layer(name: str, early: Tensor, initial: Tensor, mask: Tensor) -> Survivors:
    # a scalar has no dimension 0, and is a filter of its own
    filters = mask.nonzero()[:, 0] if mask.ndim else torch.zeros(int(mask), dtype=torch.int64)
    sigma = float(initial.double().std(correction=0)) if initial.numel() else 0.0
    return Survivors(name, early[mask], initial[mask], filters, sigma)


def _of(layer: Survivors, state: Of) -> Tensor:
    return layer.early if state == "k" else layer.initial


def _signs(values: Tensor) -> Tensor:
    """Return 1 and -1; zero has 1."""
    return torch.where(values < 0, -torch.ones_like(values), torch.ones_like(values))


def _pool(network: Network) -> Tensor:
    """Return the survivors of all layers in one tensor."""
    return _joined([layer.early for layer in network])


def _joined(parts: Values) -> Tensor:
    # torch.cat refuses an empty list, and there may be no layer
    return torch.cat(parts) if parts else torch.empty(0)


def _sorted(keys: Tensor, values: Tensor) -> Tensor:
    """Return the values sorted within each key, keys in their order."""
    order = torch.argsort(values, stable=True)
    return values[order][torch.argsort(keys[order], stable=True)]


def _movable(values: Tensor, keys: Tensor) -> bool:
    """Return whether two values under one key differ."""
    order = torch.argsort(keys, stable=True)
    keys, values = keys[order], values[order]
    return bool(((keys[1:] == keys[:-1]) & (values[1:] != values[:-1])).any())


def _permuted(values: Tensor, keys: Tensor, seed: int, *purpose: str | int) -> Tensor:
    """Return the values with those under each key in a drawn order."""
    order = torch.from_numpy(keyed_permutation(len(values), seed, "perturbation", *purpose))
    places = torch.argsort(keys, stable=True)
    # a drawn order first, which the stable sort keeps within a key
    sources = order[torch.argsort(keys[order], stable=True)]
    permuted = torch.empty_like(values)
    permuted[places] = values[sources]
    return permuted


def _moved(values: Tensor, keys: Tensor, seed: int, *purpose: str) -> Tensor:
    """Return the values permuted within their keys, by the first draw that moves one where that is possible."""
    if not _movable(values, keys):
        return values.clone()
    draws = (_permuted(values, keys, seed, *purpose, attempt) for attempt in range(_TRIES))
    return next((other for other in draws if not torch.equal(other, values)), values.clone())
