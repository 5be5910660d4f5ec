"""A masked weight as a parametrization: any module reads `frozen x mask`, gradients go straight through to the scores.

The masked weight is made once per selection, not per forward pass: gradient accumulation and evaluation read the same
tensor again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from supermask.errors import SupermaskError
from supermask.masking.kernels import mask_weights, straight_through
from supermask.masking.kernels.top_k import Weights
from supermask.masking.module_classes import guard
from supermask.masking.signs import Signs, pack, unpack
from supermask.masking.state_hooks import unhook_state
from supermask.parameters.copies import copy_of
from supermask.parameters.parameters import Place, Slot, survey
from supermask.random.transform import Treatment

_TORCHSCRIPT = (
    "TorchScript cannot hold a search, whose masks follow its scores; script or trace the plain network of its ticket,"
    " search.ticket().apply(model), or search.baked()."
)
UNREAD = -1
"""No version of a tensor."""


class _StraightThrough(torch.autograd.Function):
    """Forward: the masked weight. Backward: the gradient that the scores would have if the mask were the scores.

    With w = frozen * h(|s|) and the step function h taken for the identity, dL/ds = dL/dw * frozen * sign(s)
    (Ramanujan et al. 2020, section 3.2 and appendix); for signed scores, w = frozen * h(s), without the sign.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor, signed: bool, *stored: Tensor) -> Tensor:
        ctx.signed = signed
        ctx.save_for_backward(scores, *stored)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scores, *stored = ctx.saved_tensors
        slope = dense(gradients[0])
        gradient = straight_through(slope, _whole(stored, slope), None if ctx.signed else scores)
        return gradient, None, None, *[None for _ in stored]


class _Transformable(_StraightThrough):
    """The same in the form that the transforms of torch.func ask for, which takes five times as long to call."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, value: Tensor, signed: bool, *stored: Tensor) -> Tensor:  # type: ignore[override]
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        scores, _, ctx.signed, *stored = inputs
        ctx.save_for_backward(scores, *stored)


class _Handed(torch.autograd.Function):
    """Forward: the masked weight. Backward: its own gradient, which the optimizer turns into that of the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return dense(gradients[0]), None


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient as a dense tensor: embeddings may ask for sparse ones. A compiler refuses the question."""
    return gradient if torch.compiler.is_compiling() or gradient.layout is torch.strided else gradient.to_dense()


def straight_through_scores(scores: Tensor, value: Tensor, signed: bool, *stored: Tensor) -> Tensor:
    """Return the masked weight `value`; its gradient, times the stored slope, reaches the scores.

    Args:
        scores: that chose the mask.
        value: the masked weight.
        signed: whether the scores are ranked with their sign; by magnitude, the slope has the sign of the score too.
        stored: the slope, which in edge-popup is the frozen weight: a tensor, or bits and a magnitude.

    """
    # compilers trace either form, but not the question
    transformed = not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
    form = _Transformable if transformed else _StraightThrough
    weight: Tensor = form.apply(scores, value, signed, *stored)
    return weight


def _whole(stored: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the frozen weights: as they are stored, or made of their bits and their magnitude."""
    return stored[0] if len(stored) == 1 else unpack(Signs(*stored), like)


class Masked(nn.Module):
    """The parametrization scores -> frozen x mask, or frozen x mask x gain where the number of kept weights varies.

    Args:
        frozen: the random weights, floating; never changed.
        signed: whether the scores are ranked with their sign or by magnitude.
        packed: keep the frozen weights, which all have one magnitude, as bits; given as the name of their parameter.
        scaled_for: the number of kept weights at which the frozen weights have the variance that the layer is to keep.
            Where a selection keeps another number, a gain makes up for the difference; gradients treat the gain as a
            constant. None is no gain.

    Attributes:
        copied: None in the network that was searched. In a copy it is the version of the scores that the mask was
            copied with, or `UNREAD` where the next pass reads it: scores that then change, as in an average of several
            steps, are no longer those of the mask.
        read: whether a module has read the masked weight since the search was attached; a compiled one is not seen.
        reached: whether autograd has brought the scores a gradient.
        handed: whether backward hands the scores the gradient of the masked weight as it is; the optimizer of
            `Search.fused_sgd` asks for that, and multiplies it with the slope itself.

    Raises:
        SupermaskError: weights that should be packed have more than one magnitude.

    """

    value: Tensor
    mask: Tensor
    gain: Tensor

    def __init__(
        self, frozen: Tensor, *, signed: bool, packed: str | None = None, scaled_for: float | None = None
    ) -> None:
        super().__init__()
        self.signed, self.scaled_for, self.handed = signed, scaled_for, False
        self.copied: int | None = None
        self.read = self.reached = False
        self._stored = ("_frozen",) if packed is None else ("_bits", "_magnitude")
        # regrown from the seed, so not part of the state; the mask is, so that a state dictionary is enough to run
        for name, tensor in zip(self._stored, (frozen,) if packed is None else pack(frozen, packed), strict=True):
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("value", frozen.clone(), persistent=False)
        self.register_buffer("mask", torch.ones(frozen.shape, dtype=torch.bool, device=frozen.device))
        # it follows from the mask, so it is not part of the state either
        self.register_buffer("gain", None if scaled_for is None else frozen.new_ones(()), persistent=False)
        self.register_load_state_dict_post_hook(_refresh_after_load)

    def forward(self, scores: Tensor) -> Tensor:
        """Return the masked weight; its gradient reaches the scores."""
        weight = self.value
        if torch.is_grad_enabled() and scores.requires_grad:
            if self.handed:
                weight = cast(Tensor, _Handed.apply(scores, weight))
            else:
                weight = straight_through_scores(scores, weight, self.signed, *self._kept())
        gain = self._buffers["gain"]
        return weight if gain is None else weight * gain

    def enter(self, kind: type[nn.Module], leaf: str) -> None:
        """Change how a module computes with this weight, where reading it is not enough.

        Args:
            kind: the class that torch made for this module alone when its weight was parametrized.
            leaf: name of the weight in it.

        """

    def __setstate__(self, state: Any) -> None:
        # copies and pickles come through here; the scores of a copy are new tensors, whose versions start at 0
        super().__setstate__(state)
        self.copied = 0

    def check_copy(self, scores: Tensor) -> None:
        """Refuse a copy whose scores have changed since, for its mask is that of the scores before.

        Raises:
            SupermaskError: they have.

        """
        if self.copied == UNREAD:
            self.copied = scores._version
        elif self.copied is not None and self.copied != scores._version:
            raise SupermaskError(
                "This is a copy of a searched network whose scores have changed since it was made, as those of an"
                " average do, while its masks have not; search.averaged(copy) returns the network of its scores."
            )

    def __prepare_scriptable__(self) -> "Masked":
        """Refuse to become TorchScript.

        Raises:
            SupermaskError: always.

        """
        raise SupermaskError(_TORCHSCRIPT)

    @property
    def frozen(self) -> Tensor:
        """The random weights, of which none is pruned; not to be changed."""
        return _whole(self._kept(), self.value)

    @property
    def weights(self) -> Weights | None:
        """What follows the mask when it is selected; packed weights do not, and want a `refresh`."""
        return Weights(self._kept()[0], self.value) if len(self._stored) == 1 else None

    @torch.no_grad()
    def set_mask(self, mask: Tensor) -> None:
        """Take a bool mask of the weight's shape for all forward passes to come."""
        self.mask.copy_(mask)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the masked weight from the mask; pruned weights are +0."""
        mask_weights(self.frozen, self.mask, self.value)
        self.rescale()

    @torch.no_grad()
    def rescale(self, kept: int | None = None) -> None:
        """Let the gain follow the number of weights that the mask keeps, which a caller may know."""
        if self.scaled_for is not None:
            # in float64, because float32 does not count beyond 16.8 million; an empty layer has the gain of one weight
            squares = (
                self._squares().double()
                if kept is None
                else torch.tensor(float(kept), dtype=torch.float64, device="cpu")
            )
            self.gain.copy_((self.scaled_for / squares.clamp(min=1.0)).sqrt())

    def _squares(self) -> Tensor:
        """Return the sum of the squares of what the frozen weights are multiplied by: how many are kept."""
        return self.mask.sum()

    def grown(self, first: Tensor) -> Tensor:
        """Return what the frozen weights should be, given those of the first draw."""
        return first

    def restore(self) -> None:
        """Make what a loaded state does not hold."""
        self.refresh()

    def treatment(self) -> Treatment | None:
        """Return what is done to the kept weights besides keeping them; None where they stay as they are."""
        gain = self._buffers["gain"]
        return None if gain is None or float(gain) == 1.0 else Treatment(gain=float(gain))

    def _kept(self) -> list[Tensor]:
        # past nn.Module's own look-up, which takes as long as all else that a small layer does here
        return [cast(Tensor, self._buffers[name]) for name in self._stored]


def _refresh_after_load(module: nn.Module, _: Any) -> None:
    assert isinstance(module, Masked)
    module.restore()
    if module.copied is not None:  # scores and masks were loaded together
        module.copied = UNREAD


class Held(nn.Module):
    """The parametrization weight -> weight x mask with a mask that never changes: what is pruned stays zero.

    Momentum and weight decay act on the stored weight, whose pruned entries receive no gradient; the weight that the
    module reads is always zero there.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        # a copy, so that a state loaded into the model later leaves the caller's mask alone
        self.register_buffer("mask", mask.clone())

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with its pruned entries at +0."""
        return torch.where(self.mask, weight, 0.0)


@torch.no_grad()
def attach_scores(slot: Slot, layer: Masked, scores: Tensor) -> None:
    """Let a parameter that held a random weight hold its scores, and its modules read the masked weight."""
    slot.parameter.copy_(scores)
    attach(slot.places, layer)


def attach(places: Iterable[Place], parametrization: nn.Module) -> None:
    """Put one parametrization on a parameter at every place that reads it (tied weights have several)."""
    for place in places:
        parametrize.register_parametrization(place.module, place.leaf, parametrization)
        _shorten(type(place.module), place.leaf)
        guard(place.module, place.leaf)
        if isinstance(parametrization, Masked):
            parametrization.enter(type(place.module), place.leaf)


def _shorten(kind: type[nn.Module], leaf: str) -> None:
    """Let a module read its one masked weight without the calls that torch makes for parametrizations in general.

    Those take as long as all else that a small layer does here. Compilers get torch's own way, and so do two
    parametrizations of one weight, and torch's cache.
    """
    general = kind.__dict__[leaf].fget

    def read(module: nn.Module) -> Any:
        if not torch.compiler.is_compiling() and not parametrize._cache_enabled:
            steps = module._modules["parametrizations"]._modules[leaf]  # type: ignore[union-attr]
            first = steps._modules["0"]  # type: ignore[union-attr]
            # whoever took the scores out, as FSDP does, hears of it at the next step of the search
            scores = steps._parameters.get("original")  # type: ignore[union-attr]
            if isinstance(first, Masked) and len(steps._modules) == 1 and scores is not None:  # type: ignore[union-attr]
                first.__dict__["read"] = True  # past nn.Module's own way to set it, which takes long
                if first.copied is not None:
                    first.check_copy(scores)
                if torch.jit.is_tracing() and torch.is_grad_enabled() and scores.requires_grad:
                    raise SupermaskError(_TORCHSCRIPT)
                return first.forward(scores)
        return general(module)

    setattr(kind, leaf, property(read))


@torch.no_grad()
def baked(model: nn.Module) -> nn.Module:
    """Return a copy of a searched model in which the masked weights are plain parameters that take no gradient.

    Its outputs are those of the model, bit for bit; nothing of the search is left in it.
    """
    copied = copy_of(model)
    made: dict[int, nn.Parameter] = {}  # a tied weight stays one parameter
    for module in [module for module in copied.modules() if _is_masked(module)]:
        assert isinstance(module.parametrizations, nn.ModuleDict)
        # keyed by the parametrization: tied weights share it, but each place may compute a tensor of its own
        values = {
            leaf: (id(cast(nn.ModuleList, steps)[0]), getattr(module, leaf))
            for leaf, steps in module.parametrizations.items()
        }
        del module.parametrizations
        # not torch's own removal: that changes the class of the module, which the copy shares with its model
        module.__class__ = type(module).__bases__[0]
        for leaf, (source, value) in values.items():
            setattr(module, leaf, made.setdefault(source, nn.Parameter(value)))
    unhook_state(copied)
    return copied.requires_grad_(False)


def _is_masked(module: nn.Module) -> bool:
    lists = module._modules.get("parametrizations")
    return isinstance(lists, nn.ModuleDict) and any(
        isinstance(cast(nn.ModuleList, steps)[0], Masked) for steps in lists.values()
    )


def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Keep pruned weights at zero while the model is trained: masks of one's own, or those of a ticket.

    Optimizers that were made before go on as they are. A pruned weight gets no gradient, and its module reads +0,
    whatever momentum and weight decay do to the stored one.

    Args:
        model: plain module, on any device; changed in place.
        masks: parameter name, as in `model.named_parameters()`, to bool tensor of its shape, True = kept. A tied
            parameter has one mask, under any of its names. Parameters without a mask stay as they are.

    Returns:
        The model. `torch.nn.utils.parametrize.remove_parametrizations` makes it plain again, with zeros in place.

    Raises:
        SupermaskError: a name is unknown, a mask has another shape or is not of bools, a parameter has two masks, or
            the model is parametrized already; the model is then as it was.

    """
    slots = survey(model)
    first = {id(slot.parameter): slot for slot in slots.values()}
    every = dict(model.named_parameters(remove_duplicate=False))
    held: dict[str, Tensor] = {}
    for name, mask in masks.items():
        slot = first.get(id(every.get(name)))
        if slot is None:
            raise SupermaskError(f"The model has no parameter {name!r} to mask; it has {_some(slots)}.")
        if mask.dtype != torch.bool or tuple(mask.shape) != slot.shape:
            raise SupermaskError(
                f"The mask of {name} is a {mask.dtype} tensor of shape {tuple(mask.shape)}; give torch.bool of shape"
                f" {slot.shape}, True = kept."
            )
        if slot.name in held:
            raise SupermaskError(f"{name} and {slot.name} are one tied parameter; give it one mask.")
        held[slot.name] = mask
    for name, mask in held.items():
        attach(slots[name].places, Held(mask.to(slots[name].parameter.device)))
    return model


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return f"{', '.join(listed[:5])}{f' and {len(listed) - 5} more' * (len(listed) > 5)}"
