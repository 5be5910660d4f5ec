"""Whether a model is still as a search left it: its parts may be replaced by others, moved or written into."""

import sys
from collections.abc import Iterator, Mapping
from copy import copy
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError
from supermask.masking.parametrization import Masked
from supermask.parameters.given import Checkpoint
from supermask.parameters.parameters import Slot
from supermask.parameters.unfit import UNDER_FSDP

Link = tuple[Mapping[str, Any], str, object]
"""A dictionary of a module, a name in it, and what the search expects there."""


FIRST = 1
"""The step at which it is asked whether gradients came through the masked weights."""


class Attached:
    """The places of a model where a search reads and writes.

    Args:
        model: in which the parametrizations are attached.
        slots: the masked parameters by name.
        layers: their parametrizations by name.

    """

    def __init__(self, model: nn.Module, slots: Mapping[str, Slot], layers: Mapping[str, Masked]) -> None:
        self._model, self._slots, self._layers = model, slots, layers
        for name, slot in slots.items():
            _note_first_gradient(slot.parameter, layers[name])
        self._look()

    def check(self) -> None:
        """Look at whether all is in its place, at each step: identities alone, which takes microseconds.

        Raises:
            SupermaskError: a module, a parametrization or scores were replaced since the search was attached.

        """
        if not all(map(is_, [where.get(name) for where, name, _ in self._links], self._expected)):
            self._look()

    def refuse_unread(self) -> None:
        """Refuse scores that autograd brought a gradient though no module has read their masked weight.

        Raises:
            SupermaskError: something reads the scores as if they were the weights.

        """
        # what is compiled reads without being seen; the times of a compilation are there after the first
        compiler = sys.modules.get("torch._dynamo.utils")
        if compiler is not None and getattr(compiler, "compilation_time_metrics", True):
            return
        for name, layer in self._layers.items():
            if layer.reached and not layer.read and type(layer).enter is Masked.enter:
                raise SupermaskError(
                    f"The scores of {name} got a gradient though its module never read the masked weight: something"
                    " else reads the parameter, such as a reference made before the search, or a forward pass that asks"
                    " for named_parameters(); let it read the attribute of the module, or name it in learned=."
                )

    def _look(self) -> None:
        """Follow the links from the model to all that the search reads; refuse what is no longer there."""
        names = {id(module): name for name, module in self._model.named_modules()}
        links: dict[tuple[int, str], Link] = {}
        for name, slot in self._slots.items():
            for module, leaf in slot.places:
                if id(module) not in names:
                    raise _changed(f"the module that reads {name} is no longer a part of the model")
                for link in [
                    *_path(self._model, names[id(module)]),
                    *_own(name, module, leaf, self._layers[name], slot),
                ]:
                    links[id(link[0]), link[1]] = link
        self._links = [*links.values()]
        self._expected = [what for _, _, what in self._links]


def _note_first_gradient(scores: nn.Parameter, layer: Masked) -> None:
    """Let a layer know when autograd brings its scores their first gradient; after that nothing is asked any more."""

    def note(_: Tensor) -> None:
        layer.reached = True
        handle.remove()

    handle = scores.register_post_accumulate_grad_hook(note)


def _path(model: nn.Module, name: str) -> Iterator[Link]:
    """Yield the links from a model to one of its modules."""
    here = model
    for part in name.split(".") if name else ():
        child = here._modules[part]
        assert child is not None
        yield here._modules, part, child
        here = child


def _own(name: str, module: nn.Module, leaf: str, layer: Masked, slot: Slot) -> Iterator[Link]:
    """Yield the links from a module to its masked weight and its scores."""
    lists = module._modules.get("parametrizations")
    steps = lists._modules.get(leaf) if lists is not None else None
    if lists is None or steps is None or steps._modules.get("0") is not layer:
        raise _changed(f"{name} is no longer masked")
    if len(steps._modules) > 1:
        raise _changed(f"{name} has another parametrization over its mask")
    if vars(steps).get(UNDER_FSDP):
        raise _changed(f"{name} is under FSDP, which a search does not know (DDP it does)")
    scores = steps._parameters.get("original")
    if scores is not slot.parameter:
        kind = "none" if scores is None else f"a {type(scores).__name__} on {scores.device}"
        spread = ", as under tensor parallelism, which a search does not know (DDP it does)"
        raise _changed(f"{name} has other scores ({kind}{spread if _is_spread(scores) else ''})")
    yield module._modules, "parametrizations", lists
    yield lists._modules, leaf, steps
    yield steps._modules, "0", layer
    yield steps._modules, "1", None
    yield vars(steps), UNDER_FSDP, None
    yield steps._parameters, "original", scores


def _is_spread(scores: Tensor | None) -> bool:
    return scores is not None and type(scores) is not nn.Parameter


def _changed(what: str) -> SupermaskError:
    return SupermaskError(
        f"The model was changed after the search was attached: {what}; change it before, or make a new search."
    )


@torch.no_grad()
def refuse_altered(layers: Mapping[str, Masked], first: Mapping[str, Tensor], given: Checkpoint | None) -> None:
    """Look at the numbers of all masked weights, which takes as long as drawing them.

    Args:
        layers: by parameter name.
        first: the random weights of the first draw, float32 on the CPU, by parameter name.
        given: what is known of the frozen weights where they were given and not drawn.

    Raises:
        SupermaskError: frozen weights are not those of the seed or of the checkpoint, or a masked weight is not that of
            its mask.

    """
    for name, layer in layers.items():
        if given is not None and given.tensors[name].fault(layer.frozen):
            raise _changed(f"the frozen weights of {name} are not those that were given")
        if given is None and not torch.equal(layer.frozen, layer.grown(first[name]).to(layer.frozen)):
            raise _changed(f"the frozen weights of {name} are not those of the seed")
        there = dict(layer.named_buffers(recurse=False, remove_duplicate=False))
        again = copy(layer)  # beside it, because a backward pass may still read what is there
        again._buffers = {**layer._buffers, **{part: held.clone() for part, held in there.items()}}
        again.refresh()
        if not all(torch.equal(held, there[part]) for part, held in again.named_buffers(recurse=False)):
            raise _changed(f"the weights of {name} are not those that its mask keeps, for either was written into")
