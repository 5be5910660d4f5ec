"""Networks by a text: those of this package, of tokens too, and those that the caller's own code makes."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from supermask.errors import SupermaskError
from supermask.imported import called, keywords_of, loaded
from supermask.models.char_gpt import small_char_gpt
from supermask.models.text_transformer import small_text_transformer

GROUP = "supermask.models"
"""Entry points by which a package registers networks."""

TOKEN_MODELS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "char_gpt": small_char_gpt,
        "text_transformer": small_text_transformer,
        "text_classifier": partial(small_text_transformer, pooled=True),
        "wide_key_transformer": partial(small_text_transformer, wide_keys=True),
        "wide_key_classifier": partial(small_text_transformer, pooled=True, wide_keys=True),
    }
)
"""Networks of this package that take token ids; they are called as the caller's own are."""


def call(name: str, offered: Mapping[str, Any]) -> nn.Module:
    """Return a network of tokens of this package, or what the caller's own code makes.

    Args:
        name: of `TOKEN_MODELS`, or one of the caller's own code, which is then imported.
        offered: input_shape, classes, width and what else data say; the factory gets those that its signature names.

    Raises:
        SupermaskError: the code cannot be imported or called, makes no module, or takes no width.

    """
    factory = TOKEN_MODELS.get(name) or loaded(name, GROUP)
    if isinstance(factory, nn.Module):
        raise SupermaskError(
            f"{name} is a module that is already made; name a function or a class that makes one, because every run"
            " begins with a new one."
        )
    if offered.get("width", 1.0) != 1.0 and "width" not in keywords_of(factory):
        raise SupermaskError(f"{name} takes no width; leave out the width of {offered['width']:g}.")
    if name in TOKEN_MODELS and "vocabulary" not in offered:
        raise SupermaskError(f"{name} takes token ids, e.g. those of the data set text:FILE.")
    made = called(name, factory, offered)
    if not isinstance(made, nn.Module):
        raise SupermaskError(f"{name} returned a {type(made).__name__}; expected a torch.nn.Module.")
    return made
