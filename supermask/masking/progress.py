"""How far a search is, in the state of the model itself, so that what saves the model alone saves the search."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor, nn

from supermask.errors import SupermaskError

_STEPS, _TOLD, _ABOUT, _NUMBERS, _PARTS = "steps", "told", "search", "numbers", "parts"


class Carried(Protocol):
    """What a search changes beside its model: numbers, and tensors by name."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values, and tensors in mappings."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""


class Progress(nn.Module):
    """The step of a search and what search it is, as a part of the first masked layer.

    It has no parameters and no buffers: the step stays a Python number, so that counting waits for no device, and is
    written when a state is asked for. The state is a tensor of bytes, because safetensors knows nothing else, and of
    uint8, because a change of the model's dtype leaves that alone.

    Args:
        about: plain values that a state must have in common with this search, by name; "digest" is that of its weights.

    Attributes:
        steps: optimizer steps so far.
        carried: what else changes, or None.
        loaded: whether a state was taken up since this was last set to False.

    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        super().__init__()
        # through JSON, as states have it: a tuple is a list there
        self.about: dict[str, Any] = json.loads(json.dumps(about, default=repr))
        self.steps, self.loaded = 0, False
        self.carried: Carried | None = None

    def get_extra_state(self) -> Tensor:
        """Return the step, what search it is of, and what it carries, as bytes: uint8 (n,)."""
        return self.packed(self.steps, self.carried.state_dict() if self.carried else {})

    def packed(self, steps: int, carried: Mapping[str, Any]) -> Tensor:
        """Return a state as bytes: uint8 (n,)."""
        parts = {name: value for name, value in carried.items() if isinstance(value, Mapping)}
        numbers = {name: value for name, value in carried.items() if name not in parts}
        tensors = {
            f"{part}.{name}": tensor.detach().cpu().contiguous()
            for part, values in parts.items()
            for name, tensor in values.items()
        }
        told = {_ABOUT: self.about, _NUMBERS: numbers, _PARTS: [*parts]}
        # the step is a tensor, so that every state of a search has as many bytes; one entry, as their order may vary
        data = safetensors.torch.save({_STEPS: torch.tensor(steps, device="cpu"), **tensors}, {_TOLD: json.dumps(told)})
        return torch.frombuffer(bytearray(data), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Take up the step and what is carried.

        Raises:
            SupermaskError: the state is of another search.

        """
        told, tensors = _unpacked(state)
        self.refuse_other(told[_ABOUT])
        self.steps, self.loaded = int(tensors.pop(_STEPS)), True
        if self.carried:
            parts: dict[str, dict[str, Tensor]] = {part: {} for part in told[_PARTS]}
            for name, tensor in tensors.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = tensor
            self.carried.load_state_dict({**told[_NUMBERS], **parts})

    def refuse(self, state: Any) -> None:
        """Refuse a state of another search; nothing is taken up.

        Raises:
            SupermaskError: it is one, or damaged.

        """
        self.refuse_other(_unpacked(state)[0][_ABOUT])

    def refuse_other(self, about: Mapping[str, Any]) -> None:
        """Compare what search a state is of; what only one of the two names is of another version, and is left out.

        Raises:
            SupermaskError: it is of another search.

        """
        own = self.about
        other = [name for name in own if name in about and own[name] != about[name]]
        told = [f"{name} {about[name]!r}, here {own[name]!r}" for name in other if name != "digest"]
        why = f" ({'; '.join(told[:3])})" if told else ""
        if "digest" in other:
            raise SupermaskError(
                f"The state is of a search over other frozen weights{why}; make this one with the same seed, weights or"
                " checkpoint, density and scope."
            )
        if other:
            raise SupermaskError(f"The state is of another search{why}; make this one with the options of the state.")


def _unpacked(state: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the plain values of a state by name, and its tensors."""
    try:
        # some tools turn all tensors of a state into floats, which hold bytes exactly
        data = bytes(state.detach().cpu().to(torch.uint8).numpy())
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        told = json.loads(header[_TOLD])
        tensors = safetensors.torch.load(data)
        _ = tensors[_STEPS], told[_ABOUT], told[_NUMBERS], told[_PARTS]
    except (AttributeError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise SupermaskError(
            f"The progress of the search in this state is damaged ({error!r}); give a state that a model returned."
        ) from None
    return told, tensors
