"""A model whose weights were frozen, random or as given, and the ticket that a set of masks makes of it."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.budget import Shapes
from supermask.parameters.given import Checkpoint
from supermask.parameters.mismatch import is_finite
from supermask.parameters.parameters import Slot, bypass, normalizations, saved_tensors, survey
from supermask.parameters.roles import Policy, Role
from supermask.parameters.unfit import refuse_unfit
from supermask.random.distributions import Distribution, refuse_unknown
from supermask.random.transform import Preset, Treatment
from supermask.random.weights import RandomWeight, checked_seed, digest, grow_all
from supermask.ticket.coding.drawn import Drawn
from supermask.ticket.ticket import Ticket

Fractions = Callable[[Shapes], Mapping[str, float]]


class RandomNetwork:
    """The one random network of a search: drawn once from its seed, never trained, never drawn again.

    Over given weights nothing is drawn: the network is the model as it is, but for constants that the policy asks for.

    Args:
        model: freshly built; its parameters are overwritten in place. With given weights, they stay.
        seed: integer from 0 to 2**63 - 1.
        distribution: of the random weights; None where the policy says that weights are given.
        policy: what becomes of each parameter.
        fractions: returns for the shapes of the masked layers, by name, the fraction of its weights that a layer keeps;
            its weights are multiplied by 1/sqrt of that. Layers that it leaves out, or that keep none, are not.

    Attributes:
        masked: the prunable parameters by name, in the model's order; they hold the random weights.
        learned: the parameters that are trained as usual, by name.
        shapes: of the prunable parameters by name, in the model's order.
        weights: name to what the random tensor is made of.
        checkpoint: what stays as the model has it, buffers too, where weights are given; None where they are random.
        digest: of the weights: of the random ones, or of the given parameters.
        account: what becomes of the parameters ("masked", "dense", "learned", "constant"; "given" stay as the model
            has them, and are stored unless weights are given; "frozen" likewise, because they are not to be trained)
            to how many numbers each has, by name.
        gains: names of the gains of residual branches that are not trained.

    Raises:
        SupermaskError: the model cannot be masked, or an option is wrong.

    """

    def __init__(
        self,
        model: nn.Module,
        *,
        seed: int,
        distribution: Distribution | None,
        policy: Policy,
        fractions: Fractions = lambda shapes: {},
    ) -> None:
        self.model = model
        self.seed = seed
        self.bypassed = normalizations(model) if policy.norm == "none" else ()
        gone = tuple(f"{name}." for name in self.bypassed)
        slots = {name: slot for name, slot in survey(model, plain=False).items() if not name.startswith(gone)}
        roles = policy.roles(slots)
        refuse_unfit(model, {name: slot for name, slot in slots.items() if roles[name] in ("masked", "dense")})
        self.masked = {name: slot for name, slot in slots.items() if roles[name] == "masked"}
        self._hidden = tuple(_parametrized(name) for name in self.masked)
        self.learned = {name: slot for name, slot in slots.items() if roles[name] == "learned"}
        self.constants = {name: role for name in slots if isinstance(role := roles[name], float)}
        self.account = _account(slots, roles)
        self.gains = tuple(name for name, slot in slots.items() if slot.kind == "gain" and roles[name] != "learned")
        self.shapes = {name: slot.shape for name, slot in self.masked.items()}
        kept = fractions(self.shapes)
        self.weights = {
            name: RandomWeight(slot.shape, distribution, slot.fans, 1.0 / math.sqrt(kept.get(name) or 1.0))
            for name, slot in slots.items()
            if distribution is not None and roles[name] in ("masked", "dense")
        }
        if distribution is not None:
            refuse_unknown(distribution)
        checked_seed(seed)
        devices = {name: slot.parameter.device for name, slot in slots.items()}
        grown = self.grown(devices)
        own = {*self.learned, *self.constants}
        stays = {n: t for n, t in saved_tensors(model).items() if n not in own and not n.startswith(gone)}
        self.checkpoint = Checkpoint.of(policy.given.name, stays) if policy.given else None
        # buffers are a part of a search's state, so that the weights alone say which search it is
        self.digest = self.checkpoint.only(slots).digest if self.checkpoint else digest(grown)
        # nothing was changed so far: a refusal leaves the model as it was
        bypass(model, self.bypassed)
        self._write(slots, grown)
        self._shapes = {name: tuple(t.shape) for name, t in self._unmasked().items() if name not in self.masked}
        # infinite by design, as in an attention mask
        self._infinite = {name for name, tensor in self._unmasked().items() if not is_finite(tensor)}

    def grown(self, devices: Mapping[str, torch.device] = MappingProxyType({})) -> dict[str, Tensor]:
        """Return the random weights as they were drawn, float32, by parameter name.

        Args:
            devices: where they are to be, by name; else on the CPU.

        """
        return grow_all(self.weights, self.seed, devices)

    def refuse_changed(self, grown: Mapping[str, Tensor]) -> None:
        """Look at what a ticket does not store, because the seed or the architecture tells it.

        Args:
            grown: the random weights.

        Raises:
            SupermaskError: the model has other tensors than it had, or one that was to stay as it was has changed.

        """
        tensors = {name: tensor for name, tensor in self._unmasked().items() if name not in self.masked}
        now, before = ({name: tuple(tensor.shape) for name, tensor in tensors.items()}, self._shapes)
        differ = [name for name in {**before, **now} if now.get(name) != before.get(name)]
        if differ:
            name = differ[0]
            raise SupermaskError(
                f"The model was changed after the search was attached: its {name} had shape {before.get(name)} and has"
                f" {now.get(name)} (None: it is not there); change it before, or make a new search."
            )
        for name in tensors.keys() & {**grown, **self.constants}.keys():
            kind = "dense" if name in grown else "constant"
            expected = grown[name] if name in grown else torch.tensor(self.constants[name], device="cpu")
            if not bool((tensors[name] == expected.to(tensors[name])).all()):
                raise SupermaskError(
                    f"{name} is {kind} in this search, and has changed; give the optimizer search.parameters() alone,"
                    " or name it in learned=."
                )

    def ticket(
        self,
        masks: Mapping[str, Tensor],
        provenance: Mapping[str, Any],
        *,
        treatments: Mapping[str, Treatment] = MappingProxyType({}),
        presets: Mapping[str, Preset] = MappingProxyType({}),
        drawn: Mapping[str, Drawn] = MappingProxyType({}),
    ) -> Ticket:
        """Return the ticket of these masks with the model's present learned tensors and statistics."""
        learned = self._stored()
        checkpoint = self.checkpoint and self.checkpoint.only(self.checkpoint.tensors.keys() - learned.keys())
        return Ticket(
            seed=self.seed,
            weights=self.weights,
            masks={name: mask.detach().cpu().clone() for name, mask in masks.items()},
            digest=checkpoint.digest if checkpoint else self.digest,
            checkpoint=checkpoint,
            learned=learned,
            constants=self.constants,
            bypassed=self.bypassed,
            provenance=provenance,
            treatments=treatments,
            presets=presets,
            drawn=drawn,
        )

    @torch.no_grad()
    def _write(self, slots: Mapping[str, Slot], grown: Mapping[str, Tensor]) -> None:
        """Write the random weights and the constants into the model."""
        for name, value in self.constants.items():
            slots[name].parameter.fill_(value)
        for name, tensor in grown.items():
            slots[name].parameter.copy_(tensor)
        for name, slot in slots.items():
            slot.parameter.requires_grad_(name in self.masked or name in self.learned)

    def _stored(self) -> dict[str, Tensor]:
        """Return the tensors that no seed regrows: learned, given, and the statistics of normalisation layers.

        Over given weights they are those that are learned, or are no longer as they were given.
        """
        stored = self._unmasked()
        for name, tensor in stored.items():
            if name not in self._infinite and not is_finite(tensor):
                raise SupermaskError(f"{name} holds NaN or infinity; the training diverged: lower the learning rate.")
        known = self.weights.keys() | self.constants.keys()
        given = self.checkpoint.tensors if self.checkpoint else {}
        known |= {name for name in given.keys() & stored.keys() if not given[name].fault(stored[name])}
        return {name: tensor.detach().cpu().clone() for name, tensor in stored.items() if name not in known}

    def _unmasked(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in saved_tensors(self.model).items() if not name.startswith(self._hidden)}


def _account(slots: Mapping[str, Slot], roles: Mapping[str, Role]) -> dict[str, dict[str, int]]:
    account: dict[str, dict[str, int]] = {}
    for name, slot in slots.items():
        role = roles[name]
        what = "constant" if isinstance(role, float) else "frozen" if role == "given" and slot.frozen else role
        account.setdefault(what, {})[name] = slot.parameter.numel()
    return account


def _parametrized(name: str) -> str:
    """Return how the names begin that stand in place of a parameter's once it is masked."""
    owner, dot, leaf = name.rpartition(".")
    return f"{owner}{dot}parametrizations.{leaf}."
