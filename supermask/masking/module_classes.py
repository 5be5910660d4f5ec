"""What a module does differently once its weight is masked, in the class that torch makes for this module."""

from typing import Any, NoReturn

from torch import Tensor, nn

from supermask.errors import SupermaskError


def guard(module: nn.Module, leaf: str) -> None:
    """Let a module refuse in a sentence what a masked weight cannot do, and hold no weight that was computed.

    Args:
        module: whose weight was parametrized, so that torch made a class for it.
        leaf: name of the weight in it.

    """
    kind = type(module)
    if getattr(module, "sparse", False) is True:  # an embedding: masks want all entries of a gradient
        module.sparse = False  # type: ignore[assignment]
    setattr(kind, leaf, property(kind.__dict__[leaf].fget, _refuse_write(leaf), _refuse_write(leaf)))
    if "__getstate__" in kind.__dict__ and kind.__getstate__ is not _refuse_pickle:
        kind.__getstate__ = _refuse_pickle  # type: ignore[method-assign]  # torch's own refuses too, but not by name
        kind.register_parameter = _register  # type: ignore[method-assign, assignment]
        if issubclass(kind, nn.RNNBase):
            kind._flat_weights = property(_current_weights, _keep_first)  # type: ignore[assignment]


def _refuse_write(leaf: str) -> Any:
    def refuse(module: nn.Module, value: Any = None) -> NoReturn:
        raise SupermaskError(
            f"{type(module).__bases__[0].__name__}.{leaf} is masked, and cannot be replaced by other weights; set them"
            " before the masks are attached, with weights='given' for a search that is to keep them."
        )

    return refuse


def _register(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
    """Register a parameter, as an assignment does, unless a mask is on what it would replace."""
    lists = module._modules.get("parametrizations")
    if isinstance(lists, nn.ModuleDict) and name in lists:
        _refuse_write(name)(module)
    nn.Module.register_parameter(module, name, param)


def _refuse_pickle(module: nn.Module) -> NoReturn:
    raise SupermaskError(
        "A model with masked weights cannot be pickled, because its modules have classes of their own; save its"
        " state_dict(), or send a plain network: search.baked() or that of search.ticket()."
    )


def _current_weights(module: nn.RNNBase) -> list[Tensor]:
    """Return the present weights of a recurrent layer; torch keeps those of the last pass, with their graph.

    A tensor that has a graph cannot be copied.
    """
    return [getattr(module, name) for name in module._flat_weights_names]


def _keep_first(module: nn.RNNBase, weights: list[Tensor]) -> None:
    """Ignore the new list: the layer keeps its list of parameters for when it is plain again."""
