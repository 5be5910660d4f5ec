"""Forward passes that record what each layer does, and passes in which what a layer returns is given."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from supermask.errors import SupermaskError

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Call:
    """What a layer did in a forward pass.

    Attributes:
        module: the layer.
        inputs: (batch, ...).
        output: (batch, ...).
        multiply_adds: of the layer for one example, those of pruned weights included.

    """

    module: Layer
    inputs: Tensor
    output: Tensor
    multiply_adds: int

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """Return the local product of the inputs with the gradient of the outputs, summed over the examples.

        Args:
            gradient: of the loss by each entry of the output, of its shape.

        """
        if isinstance(self.module, nn.Linear):
            return gradient.flatten(0, -2).T @ self.inputs.flatten(0, -2)
        return _kernel_gradient(self.module, self.inputs, gradient)

    def bias_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the bias, summed over the examples."""
        if isinstance(self.module, nn.Linear):
            return gradient.flatten(0, -2).sum(0)
        return gradient.sum((0, 2, 3))


class Passes:
    """The forward passes of a network over one batch: one as it is, then others with the output of a layer changed.

    What a layer in front of the changed one returns is taken from the first pass and not computed again.

    Args:
        model: its layers are its `nn.Linear` and `nn.Conv2d` modules; in training or evaluation mode.
        images: (batch, ...).

    Attributes:
        logits: (batch, classes), of the first pass.
        calls: the layers by name, in the order in which the first pass called them.
        passes: so far.
        multiply_adds: of all layers and passes so far, for one example.

    Raises:
        SupermaskError: the network mixes examples or draws random numbers, or a layer is called twice.

    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        _refuse_unsuitable(model)
        self.model, self.images = model, images
        self.calls: dict[str, Call] = {}
        handles = [module.register_forward_hook(self._note(name)) for name, module in _layers(model).items()]
        try:
            self.logits: Tensor = model(images)
        finally:
            for handle in handles:
                handle.remove()
        if self.logits.ndim != 2 or len(self.logits) != len(images):
            raise SupermaskError(
                f"The network gives outputs of the shape {tuple(self.logits.shape)} for {len(images)} examples; without"
                " a backward pass it has to give logits of the shape (batch, classes)."
            )
        self.passes, self.multiply_adds = 1, sum(call.multiply_adds for call in self.calls.values())

    def changed(self, name: str, output: Tensor) -> Tensor:
        """Return the logits of a pass in which a layer returns another output, of its shape."""
        order = list(self.calls)
        place = order.index(name)
        given: dict[nn.Module, Tensor] = {self.calls[each].module: self.calls[each].output for each in order[:place]}
        with _returning({**given, self.calls[name].module: output}):
            logits: Tensor = self.model(self.images)
        self.passes += 1
        self.multiply_adds += sum(self.calls[each].multiply_adds for each in order[place + 1 :])
        return logits

    def _note(self, name: str) -> Any:
        def note(module: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name in self.calls:
                raise SupermaskError(
                    f"{name} is called twice in a forward pass; without a backward pass each layer is called once."
                )
            if len(output) != len(self.images):
                raise SupermaskError(
                    f"{name} returns {len(output)} rows for {len(self.images)} examples; without a backward pass layers"
                    " keep the examples apart along the first dimension."
                )
            multiply_adds = output[0].numel() * module.weight[0].numel()
            self.calls[name] = Call(module, inputs[0], output, multiply_adds)

        return note


def _layers(model: nn.Module) -> dict[str, Layer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Layer)}


@contextmanager
def _returning(given: Mapping[nn.Module, Tensor]) -> Iterator[None]:
    """Let modules return these tensors without computing anything."""
    for module, output in given.items():
        # an attribute of the instance, which nn.Module calls in place of the method of its class
        module.forward = lambda *_, output=output: output
    try:
        yield
    finally:
        for module in given:
            with suppress(AttributeError):
                del module.forward


def _refuse_unsuitable(model: nn.Module) -> None:
    for name, module in model.named_modules():
        busy = module.training
        if busy and isinstance(module, _BatchNorm):
            raise SupermaskError(
                f"{name} normalises over the batch, so that the noise of one example reaches the losses of the others;"
                " search with norm='none', or with a normalisation of each example."
            )
        if busy and isinstance(module, _DropoutNd) and module.p:
            raise SupermaskError(
                f"{name} drops other units in each pass, and passes with and without noise could not be compared; set"
                " its fraction to 0."
            )
        if isinstance(module, nn.Conv2d) and (isinstance(module.padding, str) or module.padding_mode != "zeros"):
            raise SupermaskError(
                f"{name} pads by padding={module.padding!r}, padding_mode={module.padding_mode!r}; without a backward"
                " pass convolutions pad with a number of zeros."
            )


def _kernel_gradient(module: nn.Conv2d, inputs: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the kernels of a convolution: each patch of its inputs times the gradient of its output.

    Args:
        module: the convolution. Each group of its channels has its own kernels.
        inputs: (batch, channels, height, width).
        gradient: (batch, kernels, rows, columns).

    """
    assert not isinstance(module.padding, str)
    vertical, horizontal = module.padding
    padded = pad(inputs, (horizontal, horizontal, vertical, vertical))
    kernel: Any = module.kernel_size
    patches = unfold(padded, kernel, dilation=module.dilation, stride=module.stride)
    patches = patches.unflatten(1, (module.groups, -1))  # (batch, groups, entries of a kernel, places)
    by_group = gradient.flatten(2).unflatten(1, (module.groups, -1))  # (batch, groups, kernels of a group, places)
    return torch.einsum("bgkp,bgep->gke", by_group, patches).reshape(module.weight.shape)
