"""What a model is made of: its parameters, where each is read, and what kind of parameter it is."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize

from supermask.errors import SupermaskError
from supermask.random.distributions import Fans

Kind = Literal["weight", "bias", "norm", "gain", "other"]
# batch and instance norm have no public base class in torch
_GAIN = re.compile(r"scale|gamma|gain|alpha|lambda|resweight")
"""How the gains of residual branches are named: layer_scale, gamma_1, lambda_1, skip_gain, resweight, alpha."""
SMALL_GAIN = 0.1
"""Largest start of a layer scale (CaiT's of 18 layers); they go down to 1e-6."""
_EMBEDDINGS = ("embed", "pos", "token")
_QUANTISED = "torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized"
NORMALIZATIONS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class Place(NamedTuple):
    """A module and the name under which it holds a parameter."""

    module: nn.Module
    leaf: str


@dataclass(frozen=True)
class Slot:
    """One parameter of a model.

    Attributes:
        name: as in `model.named_parameters()`; of a tied parameter the first.
        parameter: the parameter.
        shape: of the parameter.
        places: every module that reads it.
        kind: "weight" (so named, of two or more dimensions, or a stack of matrices), "bias", "norm" (affine parameter
            of a normalisation), "gain" (of a residual branch, such as a layer scale), or "other".
        fans: of the weight; of a bias those of the weight beside it.
        frozen: whether the model's maker has set it not to be trained.

    """

    name: str
    parameter: nn.Parameter
    shape: tuple[int, ...]
    places: tuple[Place, ...]
    kind: Kind
    fans: Fans
    frozen: bool = False


def survey(model: nn.Module, *, plain: bool = True) -> dict[str, Slot]:
    """Return the parameters of a model by name, in the model's order.

    Args:
        model: to look at.
        plain: refuse parametrized parameters too; they are of the kind of what is made from them.

    Raises:
        SupermaskError: the model has parametrized or uninitialised parameters; all of them are named.

    """
    _refuse_unsuitable(model, plain)
    return {name: _slot(name, parameter, _places(model, parameter)) for name, parameter in model.named_parameters()}


def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and the buffers that are saved, by name; a tied one under its first name."""
    # the only public place that tells persistent buffers from the others
    saved = model.state_dict(keep_vars=True)
    return {**dict(model.named_parameters()), **{name: b for name, b in model.named_buffers() if name in saved}}


def normalizations(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the normalisation layers, in the model's order.

    Raises:
        SupermaskError: a torch layer reads its own normalisation layers past their forward pass.

    """
    if any(isinstance(module, nn.TransformerEncoderLayer) for module in model.modules()):
        raise SupermaskError(
            "nn.TransformerEncoderLayer cannot go without its normalisation, which its fast path reads; choose another"
            " policy than norm='none'."
        )
    # a layer registered twice is read under both names
    modules = model.named_modules(remove_duplicate=False)
    return tuple(name for name, module in modules if isinstance(module, NORMALIZATIONS))


def bypass(model: nn.Module, names: Iterable[str]) -> None:
    """Replace the named modules of a model by the identity, in place."""
    for name in names:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Identity())


def _refuse_unsuitable(model: nn.Module, plain: bool) -> None:
    # torch.compile keeps the module that it wraps under this name
    problems = ["it was compiled (compile it after the search is attached)"] if hasattr(model, "_orig_mod") else []
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        problems.append("it is TorchScript, whose parameters cannot be parametrized (script the ticket's network)")
    if torch.is_inference_mode_enabled():
        problems.append("this is within torch.inference_mode(), where nothing can be made that takes gradients")
    busy = [name or "it" for name, module in model.named_modules() if plain and _busy(module)]
    if busy:
        # a large model may have hundreds of them, and the message should stay one sentence
        more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
        problems.append(f"{', '.join(busy[:3])}{more} {'is' if len(busy) == 1 else 'are'} already parametrized")
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":  # not imported, which takes long
            problems.append(f"{name or 'it'} is under FSDP, which a search does not know (DDP it does)")
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
            problems.append(f"{name or 'it'} changes its own weight in place (max_norm)")
        if type(module).__module__.startswith(_QUANTISED) and "Packed" not in type(module).__name__:
            problems.append(f"{name or 'it'} is quantised, so that its weights are no parameters and pass no gradient")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            problems.append(f"{name} has no shape yet (run one forward pass first)")
        elif parameter.is_meta:
            problems.append(f"{name} is on the meta device and holds no numbers")
        elif parameter.is_inference():
            problems.append(f"{name} was made within torch.inference_mode()")
    if problems:
        raise SupermaskError(f"The model cannot be masked: {'; '.join(problems)}; give a freshly built, plain model.")


def _busy(module: nn.Module) -> bool:
    return not isinstance(module, parametrize.ParametrizationList) and parametrize.is_parametrized(module)


def _places(model: nn.Module, parameter: nn.Parameter) -> tuple[Place, ...]:
    # not named_parameters, which gives only the first place of a tied parameter
    return tuple(
        Place(module, leaf)
        for module in model.modules()
        for leaf, held in module._parameters.items()
        if held is parameter
    )


def _slot(name: str, parameter: nn.Parameter, places: tuple[Place, ...]) -> Slot:
    kind, fans = _kind(name, parameter, places), _fans(parameter, places[0].module)
    return Slot(name, parameter, tuple(parameter.shape), places, kind, fans, not parameter.requires_grad)


def _kind(name: str, parameter: nn.Parameter, places: tuple[Place, ...]) -> Kind:
    module, leaf = places[0]
    if isinstance(module, parametrize.ParametrizationList):
        leaf = name.split(".")[-2]  # weight.original0
    # first, because these layers call their parameters weight and bias too
    if isinstance(module, NORMALIZATIONS):
        return "norm"
    # anywhere in the name, for torch has in_proj_weight and weight_ih_l0
    if "weight" in leaf and parameter.ndim >= 2 and parameter.is_floating_point():
        return "weight"
    # at either end of the name, for torch has bias_ih_l0 and in_proj_bias
    if (leaf.startswith("bias") or leaf.endswith("bias")) and parameter.squeeze().ndim <= 1:
        return "bias"
    if _is_stack(parameter, module) and not any(part in leaf for part in _EMBEDDINGS):
        return "weight"
    return "gain" if _is_gain(parameter, leaf) else "other"


def _is_gain(parameter: nn.Parameter, leaf: str) -> bool:
    """Return whether a parameter is the gain of a residual branch, by its name or by how it starts."""
    if parameter.squeeze().ndim > 1 or not parameter.is_floating_point() or "logit" in leaf:
        return False
    values = parameter.detach().reshape(-1)
    # one small value for all channels is how layer scales start, whatever they are called (ls1 in ResMLP)
    small = len(values) > 1 and bool((values == values[0]).all()) and 0.0 < abs(float(values[0])) <= SMALL_GAIN
    return small or bool(_GAIN.search(leaf))


def _is_stack(parameter: nn.Parameter, module: nn.Module) -> bool:
    """Return whether a parameter is a stack of matrices, such as the fused experts of a mixture."""
    # a convolution of one dimension has three too, and nn.Bilinear is one map of two inputs
    convolves = hasattr(module, "kernel_size") or isinstance(module, nn.Bilinear)
    return parameter.ndim == 3 and min(parameter.shape) > 1 and parameter.is_floating_point() and not convolves


def _fans(parameter: nn.Parameter, module: nn.Module) -> Fans:
    """Return how many weights lead into one output unit and out of one input unit, groups seen to.

    For a Linear these are its sizes, for an Embedding (count, width) the fan-in is the width, as `torch.nn.init` has
    it. A transposed convolution stores its input channels first, which `torch.nn.init` does not see; strides are
    left out of account. Other layers that store (in, out), and stacks of matrices, are told by their bias or by what
    the module says of its sizes.
    """
    if parameter.ndim < 2:
        beside = next((other for other in module._parameters.values() if other is not None and other.ndim >= 2), None)
        return (
            _fans(beside, module) if beside is not None else Fans(max(1, parameter.numel()), max(1, parameter.numel()))
        )
    if _is_stack(parameter, module) and not _named_weight(parameter, module):
        return _matrix_fans(parameter, module, tuple(parameter.shape[1:]))
    if parameter.ndim == 2:
        return _matrix_fans(parameter, module, tuple(parameter.shape))
    field, groups = math.prod(parameter.shape[2:]), _groups(module)
    # a convolution's second size is per group already, so only the first is divided
    out_first, in_first = parameter.shape[0] // groups * field, parameter.shape[1] * field
    if isinstance(module, _ConvTransposeNd):
        return Fans(max(1, out_first), max(1, in_first))
    # a layer may have a size of 0, and distributions divide by the fans
    return Fans(max(1, in_first), max(1, out_first))


def _matrix_fans(parameter: nn.Parameter, module: nn.Module, shape: tuple[int, ...]) -> Fans:
    """Return the fans of a matrix: torch stores (out, in), some layers, such as GPT-2's Conv1D, (in, out)."""
    first, second = (max(1, size) for size in shape)
    if _stores_inputs_first(parameter, module, shape):
        return Fans(first, second)
    return Fans(second, max(1, first // _groups(module)))


def _groups(module: nn.Module) -> int:
    named = getattr(module, "groups", 1)
    return named if isinstance(named, int) else 1  # one's own module may call anything its groups


def _stores_inputs_first(parameter: nn.Parameter, module: nn.Module, shape: tuple[int, ...]) -> bool:
    sizes = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if sizes in (shape, shape[::-1]):
        return sizes == shape
    # a bias has one entry for each output, in its last dimension
    leaf = next(leaf for leaf, held in module._parameters.items() if held is parameter)
    beside = [module._parameters.get(name) for name in (f"{leaf}_bias", leaf.replace("weight", "bias"))]
    outputs = {bias.shape[-1] for bias in beside if bias is not None and bias is not parameter and bias.ndim}
    return outputs == {shape[1]} and shape[0] != shape[1]


def _named_weight(parameter: nn.Parameter, module: nn.Module) -> bool:
    return any("weight" in leaf for leaf, held in module._parameters.items() if held is parameter)
