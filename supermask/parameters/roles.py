"""What becomes of each parameter of a model: masked, dense, learned, constant or kept as it was given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from supermask.errors import SupermaskError
from supermask.parameters.given import Given
from supermask.parameters.parameters import Slot
from supermask.parameters.patterns import matching

BiasPolicy = Literal["none", "frozen", "learned"]
NormPolicy = Literal["none", "affine_off", "frozen", "learned"]
GainPolicy = Literal["given", "one"]
Role = Literal["masked", "dense", "learned", "given"] | float
"""A number is the constant that every entry of the parameter has."""

_CLAIMS: dict[str, Role] = {"include": "masked", "dense": "dense", "learned": "learned"}


@dataclass(frozen=True)
class Policy:
    """Which parameters are pruned, and what happens to the others.

    Names are those of `model.named_parameters()`; `*` and `?` match as in file names.

    Attributes:
        include: parameters that are masked besides those of two or more dimensions with "weight" in their name, and
            stacks of matrices, such as the fused experts of a mixture.
        dense: random and frozen like the masked ones, but never pruned, and not counted among the prunable weights.
        learned: trained, and stored in the ticket.
        bias: "none" (zero), "frozen" (random, from the seed; where weights are given, as the model has it) or
            "learned". None is "none", and "frozen" where weights are given.
        norm: of normalisation layers: "none" (the layer is bypassed), "affine_off" (it normalises, with weight 1 and
            bias 0), "frozen" (its affine parameters stay as the model has them) or "learned". None is "affine_off", and
            "frozen" where weights are given.
        gains: of residual branches, such as a layer scale: "given" (as the model has them) or "one". Gains that start
            near 0 let almost no gradient through to the scores of their branch, and only a trained gain would grow.

    Parameters that the model's maker has set not to be trained (`requires_grad=False`) stay as they are and are stored,
    unless an option names them. Where weights are given, what stays as the model has it is of the checkpoint, and is
    not stored.

    """

    include: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    bias: BiasPolicy | None = None
    norm: NormPolicy | None = None
    gains: GainPolicy = field(default="given", metadata={"later": True})

    def __post_init__(self) -> None:
        for option, value in self.defaults().items():
            if getattr(self, option) is None:
                object.__setattr__(self, option, value)
        _one_of("bias", self.bias, ("none", "frozen", "learned"))
        _one_of("norm", self.norm, ("none", "affine_off", "frozen", "learned"))
        _one_of("gains", self.gains, ("given", "one"))
        for option in _CLAIMS:
            # a string would be taken for a tuple of its letters
            if isinstance(getattr(self, option), str):
                raise SupermaskError(f"{option}={getattr(self, option)!r} is one string; give a tuple of names.")

    @property
    def given(self) -> Given | None:
        """The given weights that are masked in place of random ones; None where weights are drawn."""
        return None

    def defaults(self) -> dict[str, Any]:
        """Return what None stands for, by option: it depends on whether weights are given."""
        if self.given:
            return {"bias": "frozen", "norm": "frozen"}
        return {"bias": "none", "norm": "affine_off"}

    def roles(self, slots: Mapping[str, Slot]) -> dict[str, Role]:
        """Return the role of each parameter.

        Raises:
            SupermaskError: a pattern matches nothing, two options claim one parameter, or nothing is left to prune.

        """
        claims: dict[str, Role] = {}
        for option, role in _CLAIMS.items():
            for name in matching(getattr(self, option), slots, option):
                if claims.setdefault(name, role) != role:
                    raise SupermaskError(f"{name} is asked to be {claims[name]} and {role}; name it once.")
        for name, role in claims.items():
            _refuse_dtype(slots[name], role)
        roles = {name: claims.get(name, self._default(slot)) for name, slot in slots.items()}
        # a parameter without entries has nothing to prune, whatever its role
        if not any(role == "masked" and slots[name].parameter.numel() for name, role in roles.items()):
            raise SupermaskError(_nothing_to_prune(slots))
        return roles

    def _default(self, slot: Slot) -> Role:
        if slot.frozen:
            return self._kept(slot)
        if slot.kind == "weight":
            return "masked"
        if slot.kind == "gain" and self.gains == "one":
            return 1.0
        if slot.kind == "bias":
            frozen: Role = "given" if self.given else "dense"
            return {"none": 0.0, "frozen": frozen}.get(str(self.bias), "learned")
        if slot.kind == "norm" and self.norm == "learned":
            return "learned"
        if slot.kind == "norm" and self.norm == "affine_off":
            return 0.0 if slot.places[0].leaf == "bias" else 1.0
        return self._kept(slot)

    def _kept(self, slot: Slot) -> Role:
        return "given" if self.given else _as_given(slot)


def _refuse_dtype(slot: Slot, role: Role) -> None:
    """Refuse numbers that cannot have the role that an option asks for."""
    parameter, dtype = slot.parameter, str(slot.parameter.dtype).removeprefix("torch.")
    # the narrow floats of eight bits are stored, and not computed with
    scored = parameter.is_floating_point() and parameter.element_size() > 1
    if role == "masked" and not scored:
        raise SupermaskError(
            f"include: {slot.name} is {dtype}, and scores rank real numbers of 16 bits or more; leave it out."
        )
    if role == "learned" and not (scored or parameter.is_complex()):
        raise SupermaskError(f"learned: {slot.name} is {dtype}, which no gradient moves; leave it out.")


def _as_given(slot: Slot) -> Role:
    """Return the one value of a parameter that has only one, so that the ticket need not store it."""
    values = slot.parameter.detach().reshape(-1)
    if values.numel() and values.is_floating_point():
        wide = values.float() if values.element_size() == 1 else values  # the narrow floats cannot be compared
        if bool(((wide == wide[0]) & wide.isfinite()).all()):
            return float(wide[0])
    return "given"


def _nothing_to_prune(slots: Mapping[str, Slot]) -> str:
    if not slots:
        return "The model has no parameters, so there is nothing to prune; give a model with weights."
    if all(slot.frozen for slot in slots.values()):
        return (
            "The model has nothing to prune: none of its parameters is to be trained (requires_grad=False), so that all"
            " stay as they are; name those to mask with include=, or set them to be trained."
        )
    return (
        'The model has nothing to prune: none of its parameters has "weight" in its name and two or more dimensions;'
        f" name those to mask with include=, out of {', '.join(slots)}."
    )


def _one_of(option: str, value: str | None, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SupermaskError(f"{option}={value!r} is unknown; known are {', '.join(known)}.")
