"""What happens to the state of a searched model on its way out and in.

Hooks of the whole model, so that one of its modules by itself gives and takes a whole state.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from supermask.errors import SupermaskError
from supermask.masking.progress import Progress

State = dict[str, Any]
KEY = "_extra_state"
"""What torch calls the state of a module that is neither a parameter nor a buffer."""


def hook_state(model: nn.Module) -> None:
    """Let the state of a searched model hold everything once, and be refused where it is of another search.

    A tied weight has a parametrization at each of its places, whose names no library knows to be copies of each other:
    safetensors and transformers' `save_pretrained` refuse them.
    """
    model.register_state_dict_post_hook(_leave_out_copies)
    model.register_load_state_dict_pre_hook(_take_up)


def unhook_state(model: nn.Module) -> None:
    """Let a model have the state of any other again: the search was taken off it."""
    for hooks in (model._state_dict_hooks, model._load_state_dict_pre_hooks):
        for key in [key for key, hook in hooks.items() if getattr(hook, "hook", hook) in (_leave_out_copies, _take_up)]:
            del hooks[key]


def progress_of(model: nn.Module) -> Iterator[tuple[str, Progress]]:
    """Yield the progress of each search that the model is in, with the name that its state has for it."""
    for name, module in model.named_modules():
        if isinstance(module, Progress):
            yield f"{name}.{KEY}", module


def _lists(model: nn.Module) -> Iterator[tuple[str, ParametrizationList]]:
    """Yield the parametrizations of the model, each with its name; of tied weights under all names."""
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, ParametrizationList):
            yield name, module


def _copies(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of parametrizations that are copies of an earlier one, each with the name of that."""
    first: dict[int, str] = {}
    for name, module in _lists(model):
        earlier = first.setdefault(id(module[0]), name)
        if earlier != name:
            yield f"{name}.", f"{earlier}."


def _leave_out_copies(model: nn.Module, state: State, prefix: str, _: Any) -> None:
    gone = tuple(prefix + name for name, _ in _copies(model))
    for key in [key for key in state if key.startswith(gone)] if gone else ():
        del state[key]


def _take_up(model: nn.Module, state: State, prefix: str, *_: Any) -> None:
    """Refuse a state of another search before any of it is written into the model; fill in the copies.

    That does not depend on `strict`: without it torch leaves out what does not fit, and a search would go on by half.
    """
    for name, progress in progress_of(model):
        if prefix + name in state:
            progress.refuse(state[prefix + name])
        elif f"{prefix}{name.removesuffix(f'progress.{KEY}')}mask" in state:
            raise SupermaskError(
                "The state holds masks but not the step and the search that they are of, since an older version saved"
                " it; search.load_state_dict({'steps': ..., 'digest': search.network.digest, 'model': state}) takes it"
                " up at the step that you know."
            )
    for name, earlier in _copies(model):
        own = {key: tensor for key, tensor in state.items() if key.startswith(prefix + earlier)}
        for key, tensor in own.items():
            state.setdefault(prefix + name + key.removeprefix(prefix + earlier), tensor)
    _refuse_foreign(model, state, prefix)
    _refuse_half(model, state, prefix)


def _refuse_foreign(model: nn.Module, state: State, prefix: str) -> None:
    """Refuse a state whose names are not those of this model: of a wrapper, of what is wrapped, of a plain network."""
    own = [name for name, _ in progress_of(model)]
    found = [key for key in state if key.endswith(f"progress.{KEY}")]
    # a model within a larger one may be left out of its state, and sees no other names
    if own and found and not prefix and own[0] not in state:
        raise SupermaskError(
            f"The state is of a search under other names ({found[0].removesuffix(f'.0.progress.{KEY}')}, here"
            f" {own[0].removesuffix(f'.0.progress.{KEY}')}), as a wrapper of the model has them; remove what stands"
            " before them, or load it into the wrapper."
        )
    for name, _ in _lists(model):
        owner, _, leaf = f"{prefix}{name}".rpartition("parametrizations.")
        if f"{owner}{leaf}" in state and f"{prefix}{name}.original" not in state:
            raise SupermaskError(
                f"The state holds {owner}{leaf} as a plain network has it, and here it is masked; load it before the"
                " search is attached, with weights='given' if it is to stay."
            )


def _refuse_half(model: nn.Module, state: State, prefix: str) -> None:
    """Refuse a state that has the scores, the mask or the step of a search, and not all of them."""
    parts = [f"{prefix}{name}.{part}" for name, _ in _lists(model) for part in ("original", "0.mask")]
    parts += [prefix + name for name, _ in progress_of(model)]
    there = [part for part in parts if part in state]
    if there and len(there) < len(parts):
        lost = [part for part in parts if part not in state]
        raise SupermaskError(
            f"The state holds {there[0]} and lacks {lost[0]}: half a search cannot go on; give all of its state."
        )
