"""Where marked channels arrive: NaN is put into them, and every layer looks whether it reads one."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from supermask.baselines.structured.sites import Site
from supermask.errors import SupermaskError

Look = Callable[[Tensor], Tensor]


class Probe:
    """A network in evaluation mode whose layers give out marks and see them arrive.

    Comparing numbers would not do: ReLU and pooling may hide a change. NaN passes through both, through padding,
    batch norm, reshaping and arithmetic, and a layer that reads it takes 0 instead, so that it goes no further.

    Attributes:
        calls: times that each layer is called in one forward pass.

    """

    def __init__(self, model: nn.Module, sites: Mapping[str, Site], example: Tensor, through_norms: bool) -> None:
        self.calls: Counter[str] = Counter()
        self._model, self._sites, self._example = model, sites, example
        stops = {"weight"} if through_norms else {"weight", "norm"}
        self._stops = {name for name, site in sites.items() if site.kind in stops}
        self._marks: Mapping[str, Tensor | None] = {}
        self._value = torch.nan
        self._look: Look = torch.isnan
        self._seen: dict[str, Tensor] = {}

    def arrivals(self, marks: Mapping[str, Tensor | None]) -> tuple[dict[str, Tensor], bool]:
        """Return where NaN arrives, directly, from some channels.

        Args:
            marks: bool (channels,) by name of a layer: those of its outputs that become NaN; None is all that it has.

        Returns:
            bool (features,) by name of a layer: the inputs that arrive NaN; and whether an output of the network is.

        """
        output = self._run(marks, torch.nan, torch.isnan, self._example)
        return dict(self._seen), any(bool(tensor.isnan().any()) for tensor in tensors_in(output))

    def arrivals_of_input(self) -> dict[str, Tensor]:
        """Return where the input of the network arrives, as `arrivals` does."""
        if self._example.is_floating_point():  # else nothing but an embedding can read it
            self._run({}, torch.nan, torch.isnan, torch.full_like(self._example, torch.nan))
            return dict(self._seen)
        return {}

    def left_over(self, marks: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """Return where something else than 0 arrives when the marked channels are 0, as `arrivals` does."""
        self._run(marks, 0.0, lambda tensor: tensor != 0, self._example)
        return dict(self._seen)

    @contextmanager
    def attached(self) -> Iterator["Probe"]:
        """Put hooks on the layers for the duration of the context."""
        modes = {module: module.training for module in self._model.modules()}
        with ExitStack() as hooks, torch.no_grad():
            for site in self._sites.values():
                before = site.module.register_forward_pre_hook(partial(self._arrive, site), with_kwargs=True)
                hooks.callback(before.remove)
                hooks.callback(site.module.register_forward_hook(partial(self._leave, site)).remove)
            try:
                self._model.eval()
                yield self
            finally:
                for module, mode in modes.items():
                    module.training = mode

    def _run(self, marks: Mapping[str, Tensor | None], value: float, look: Look, example: Tensor) -> Any:
        self._marks, self._value, self._look = marks, value, look
        self._seen = {}
        self.calls.clear()
        try:
            return self._model(example)
        except Exception as error:  # the forward is anyone's code
            raise SupermaskError(f"The network's channels cannot be followed: {first_line(error)}.") from error

    def _arrive(self, site: Site, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self.calls[site.name] += 1
        for tensor in tensors_in((args, kwargs)):
            seen = _features(site, self._look(tensor))
            self._seen[site.name] = self._seen.get(site.name, torch.zeros_like(seen)) | seen
        if site.name not in self._stops:
            return None
        return _mapped(args, _without_nan), _mapped(kwargs, _without_nan)

    def _leave(self, site: Site, module: nn.Module, args: Any, output: Any) -> Any:
        if site.name not in self._marks:
            return None
        return _mapped(output, lambda tensor: _filled(site, tensor, self._marks[site.name], self._value))


def tensors_in(value: Any) -> list[Tensor]:
    """Return the floating tensors in a value made of tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _features(site: Site, seen: Tensor) -> Tensor:
    """Return which of a layer's input features were seen anywhere."""
    if site.kind == "opaque":
        return seen.any().reshape(1).cpu()
    return seen.movedim(site.dimension, -1).flatten(0, -2).any(0).cpu()


def _filled(site: Site, tensor: Tensor, channels: Tensor | None, value: float) -> Tensor:
    if channels is None or site.kind == "opaque":
        return torch.full_like(tensor, value) if tensor.is_floating_point() else tensor
    tensor.movedim(site.dimension, -1)[..., channels.to(tensor.device)] = value
    return tensor


def _without_nan(tensor: Tensor) -> Tensor:
    return tensor.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        parts = [_mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, Mapping):
        return {key: _mapped(part, change) for key, part in value.items()}
    return value
