"""The one random network of many tasks: its tensors under one mask, under many at once, and their gradients."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.modules.batchnorm import _BatchNorm

from supermask.errors import SupermaskError, TicketError
from supermask.ticket import Ticket

Tensors = dict[str, Tensor]
_NO_FORWARD = ("forward mode", "forward AD", "setup_context")
"""In torch's errors of operations without a forward derivative: of torch's own, of new and of old custom functions."""


class Objective(ABC):
    """A number per example that is lowest under the mask of its task: how unsure the network is of its output."""

    @abstractmethod
    def __call__(self, logits: Tensor) -> Tensor:
        """Return the objective of each example, (batch,), of its logits, float (batch, outputs)."""


@dataclass(frozen=True)
class Entropy(Objective):
    """H, the entropy of the class probabilities, in nats (Wortsman et al. 2020, section 3.3, below equation 2)."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the entropy of each row."""
        return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


ENTROPY = Entropy()


@dataclass(frozen=True)
class Superfluous(Objective):
    """G, the log of the summed exponentials of all logits; only the superfluous ones pass a gradient.

    Superfluous outputs are those past the classes: the cross-entropy pushes them down in training, so that on data of
    its task the right mask has them low. The gradient in them is that of the cross-entropy, whatever the label
    (Wortsman et al. 2020, section 3.6; appendix I, lemma 1).

    Args:
        classes: outputs that stand for classes, the first ones; the network has more outputs than that.

    Raises:
        SupermaskError: classes is less than 1, or when it is called: the network has no output besides them.

    """

    classes: int

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise SupermaskError(f"Superfluous(classes={self.classes}) names no class; give 1 or more.")

    def __call__(self, logits: Tensor) -> Tensor:
        """Return G of each row."""
        if logits.shape[1] <= self.classes:
            raise SupermaskError(
                f"The network has {logits.shape[1]} outputs and {self.classes} classes, so none is superfluous; build"
                " it with more outputs, or infer by the entropy."
            )
        held, free = logits[:, : self.classes].detach(), logits[:, self.classes :]
        return torch.cat([held, free], 1).logsumexp(1)


def refuse_nan(values: Tensor) -> Tensor:
    """Return the values unless one is NaN, which `argmin` would take for the smallest.

    Raises:
        SupermaskError: one is.

    """
    if bool(values.isnan().any()):
        raise SupermaskError("The network gives NaN, so that no task can be inferred; look at the inputs.")
    return values


class SharedNetwork:
    """The random network that all tasks share, in a model of its architecture.

    The network of a task is that of its ticket. Superposed with coefficients alpha, a masked weight is
    frozen x sum_i alpha_i mask_i (Wortsman et al. 2020, equation 2), and a learned tensor, running statistics of
    batch norm among them, is sum_i alpha_i learned_i: at a corner of the simplex, where one alpha is 1 and the others
    are 0, this is the network of that task and of no other. (The authors' networks with batch norm share one set of
    statistics, with which the tasks learned before come out at random; their superposed networks have no batch norm,
    so that the mean over the tasks is a choice made here.) Integer tensors cannot be mixed; the first task's are taken.

    Args:
        model: freshly built; takes the network of the ticket, in place.
        ticket: of the first task.

    Raises:
        TicketError: the model is of another architecture, or the ticket's kept weights are not the random ones alone.

    """

    def __init__(self, model: nn.Module, ticket: Ticket) -> None:
        _refuse_unsuitable(ticket)
        ticket.apply(model)
        self.model, self.first = model, ticket
        parameters = dict(model.named_parameters())
        grown = ticket.random_weights()
        self._frozen = {name: grown[name].to(parameters[name].device) for name in ticket.masks}
        own = ticket.masks.keys() | ticket.learned.keys()
        self._common = {name: tensor.detach().clone() for name, tensor in parameters.items() if name not in own}

    def check(self, ticket: Ticket) -> None:
        """Refuse a ticket over other random weights or of another architecture.

        Raises:
            TicketError: it is of another seed, distribution, scale, architecture or policy; the message says which.

        """
        _refuse_unsuitable(ticket)
        first = self.first
        if ticket.seed != first.seed:
            raise TicketError(f"The ticket is of seed {ticket.seed}; the tasks here share seed {first.seed}.")
        for what, theirs, ours in (
            ("random weights", ticket.weights, first.weights),
            ("masks", _shapes(ticket.masks), _shapes(first.masks)),
            ("learned tensors", _shapes(ticket.learned), _shapes(first.learned)),
            ("constants", ticket.constants, first.constants),
            ("bypassed layers", dict.fromkeys(ticket.bypassed), dict.fromkeys(first.bypassed)),
        ):
            if dict(theirs) != dict(ours):
                raise TicketError(
                    f"The ticket has other {what} than the tasks here ({_first_difference(theirs, ours)}); find it with"
                    " the same model, density, weights and policy."
                )
        if ticket.digest != first.digest:
            raise TicketError("The random weights of the ticket have another digest than those of the tasks here.")

    @torch.no_grad()
    def tensors(self, ticket: Ticket) -> Tensors:
        """Return the masked weights and the learned tensors of a task, in the model's dtypes and on its device."""
        places = self._places()
        masked = {
            name: torch.where(ticket.masks[name].to(places[name].device), frozen.to(places[name]), 0.0)
            for name, frozen in self._frozen.items()
        }
        return masked | {name: tensor.to(places[name]) for name, tensor in ticket.learned.items()}

    @torch.no_grad()
    def superposed(self, tickets: Sequence[Ticket], alphas: Sequence[float]) -> Tensors:
        """Return the tensors of the superposition of some tasks with these coefficients."""
        places, mixed = self._places(), Tensors()
        for name, frozen in self._frozen.items():
            weights = frozen.to(places[name])
            coefficients = _weighed(alphas, [ticket.masks[name] for ticket in tickets], weights)
            mixed[name] = weights * coefficients + 0.0  # what no task keeps is +0, not -0
        for name, tensor in self.first.learned.items():
            whole = not tensor.is_floating_point()
            parts = [ticket.learned[name] for ticket in tickets]
            mixed[name] = tensor.to(places[name]) if whole else _weighed(alphas, parts, places[name])
        return mixed

    @torch.no_grad()
    def install(self, tensors: Tensors) -> None:
        """Write a network into the model."""
        places = self._places()
        for name, tensor in {**self._common, **tensors}.items():
            places[name].copy_(tensor)

    @torch.no_grad()
    def outputs(self, tensors: Tensors, inputs: Tensor) -> Tensor:
        """Return the logits, float (batch, outputs), of a network in evaluation mode."""
        with in_evaluation(self.model):
            return self._run(tensors, inputs)

    def slope(self, tensors: Tensors, tasks: Iterable[Ticket], inputs: Tensor, objective: Objective) -> Tensor:
        """Return the derivative of the mean objective of a batch in the coefficient of each task, (tasks,).

        By the chain rule it is the scalar product of the objective's gradient in the superposed tensors with the
        tensors of the task: one backward pass, however many tasks there are.
        """
        moving, held = _parted(tensors)
        moving = {name: tensor.detach().requires_grad_() for name, tensor in moving.items()}
        with torch.enable_grad(), in_evaluation(self.model), reachable_statistics(self.model):
            value = objective(self._run({**held, **moving}, inputs)).mean()
            found = torch.autograd.grad(value, list(moving.values()), allow_unused=True)
        gradients = {name: each for name, each in zip(moving, found, strict=True) if each is not None}
        for name in gradients.keys() & self._frozen.keys():  # their product with every mask is to be summed
            gradients[name] = gradients[name] * self._frozen[name].to(gradients[name])
        return torch.stack([_summed(gradients, task).to(value.device) for task in tasks])

    def slopes(self, tensors: Tensors, tasks: Iterable[Ticket], inputs: Tensor, objective: Objective) -> Tensor:
        """Return the derivative of each example's objective in the coefficient of each task, (batch, tasks).

        The coefficient of a task moves the superposed tensors along those of the task, so that a column is a
        derivative in one direction, of all examples at once. Where an operation of the model has no forward derivative,
        the examples go backward one by one.
        """
        tasks = list(tasks)
        try:
            return torch.stack([self._along(tensors, task, inputs, objective) for task in tasks], 1)
        except (NotImplementedError, RuntimeError) as error:
            if not any(sign in str(error) for sign in _NO_FORWARD):
                raise
            return torch.stack([self.slope(tensors, tasks, one[None], objective) for one in inputs])

    @torch.no_grad()
    def _along(self, tensors: Tensors, task: Ticket, inputs: Tensor, objective: Objective) -> Tensor:
        moving, held = _parted(tensors)
        towards = self.tensors(task)

        def values(moved: Tensors) -> Tensor:
            return objective(self._run({**held, **moved}, inputs))

        with in_evaluation(self.model), reachable_statistics(self.model), warnings.catch_warnings():
            # torch's own, of how it stores its forward derivatives
            warnings.filterwarnings("ignore", message="`torch.jit.script`")
            slope: Tensor = jvp(values, (moving,), ({name: towards[name] for name in moving},))[1]
        return slope.detach()

    def _run(self, tensors: Tensors, inputs: Tensor) -> Tensor:
        places = self._places()
        common = {name: tensor.to(places[name]) for name, tensor in self._common.items()}
        logits: Tensor = functional_call(self.model, {**common, **tensors}, (inputs,))
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SupermaskError(
                f"The model returned {shape}; tasks are inferred from logits of shape (batch, outputs)."
            )
        return logits

    def _places(self) -> dict[str, Tensor]:
        """Return the model's parameters and buffers, on the device and in the dtype that they have by now."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}


def _weighed(alphas: Sequence[float], tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    total = torch.zeros_like(like, requires_grad=False)
    for alpha, tensor in zip(alphas, tensors, strict=True):
        total.add_(tensor.to(like), alpha=alpha)  # twice as fast as to add a bool tensor
    return total


def _summed(gradients: Mapping[str, Tensor], ticket: Ticket) -> Tensor:
    factors = {**ticket.learned, **ticket.masks}
    parts = [(gradient * factors[name].to(gradient)).sum() for name, gradient in gradients.items()]
    return torch.stack(parts).sum() if parts else torch.zeros(())


def _parted(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Return the tensors that move with the coefficients, and the integer ones."""
    moving = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    return moving, {name: tensor for name, tensor in tensors.items() if name not in moving}


def _refuse_unsuitable(ticket: Ticket) -> None:
    if ticket.checkpoint:
        raise TicketError(
            f"The ticket is over given weights, of the checkpoint {ticket.checkpoint.title}, and tasks are superposed"
            " over one random network; find it with random weights."
        )
    if ticket.treatments:
        names = ", ".join(list(ticket.treatments)[:3])
        raise TicketError(
            f"The ticket does more to its random weights than mask them ({names}), so that tasks would not share one"
            " random network; find it with a search that only masks."
        )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[object, ...]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def _first_difference(theirs: Mapping[str, object], ours: Mapping[str, object]) -> str:
    missing = object()
    return next(name for name in [*ours, *theirs] if theirs.get(name, missing) != ours.get(name, missing))


# ---- batch norm over statistics that a gradient reaches


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Run a model in evaluation mode; each of its modules is in its own mode again afterwards."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def reachable_statistics(model: nn.Module) -> Iterator[None]:
    """Let every batch norm of a model in evaluation mode compute by its formula, so that its statistics take gradients.

    torch's own batch norm has none for the running mean and variance. The outputs are the same up to rounding.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    try:
        for layer in layers:
            # on the instance, in front of the method of its class
            layer.__dict__["forward"] = partial(_normalize, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _normalize(layer: _BatchNorm, inputs: Tensor) -> Tensor:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    shape = (1, -1, *[1] * (inputs.ndim - 2))
    scale = (layer.running_var + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight
    output = (inputs - layer.running_mean.reshape(shape)) * scale.reshape(shape)
    return output + layer.bias.reshape(shape) if layer.affine else output
