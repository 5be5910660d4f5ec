"""torchvision's classification models, untrained."""

from difflib import get_close_matches

from torch import nn

from supermask.errors import SupermaskError
from supermask.models.shape import InputShape
from supermask.torchvision_import import import_torchvision

WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def from_torchvision(
    name: str, *, input_shape: InputShape | None = None, classes: int, width: float = 1.0
) -> nn.Module:
    """Make torchvision's model `name`: float images (batch, 3, height, width) to logits (batch, classes).

    The weights are torchvision's own initialisation, not pretrained. Only the channels of `input_shape` are
    looked at: every model takes 224 by 224, and each decides itself about other sizes. Auxiliary heads are
    left out, so that logits are all it returns.

    Raises:
        SupermaskError: torchvision cannot be imported or has no such classification model; `width` is not 1
            or the channels are not 3, which torchvision fixes.
    """
    if width != 1:
        raise SupermaskError(f"width is {width!r}; torchvision's models take no width, so it must be 1.")
    if input_shape is not None and input_shape[0] != 3:
        raise SupermaskError(f"input_shape {input_shape} has {input_shape[0]} channels; torchvision's models take 3.")
    models = import_torchvision().models
    _check_name(name, models.list_models(module=models))
    if name in WITH_AUXILIARY_HEADS:
        # with init_weights unsaid, these two warn that its default will change
        return models.get_model(name, weights=None, num_classes=classes, aux_logits=False, init_weights=True)
    return models.get_model(name, weights=None, num_classes=classes)


def _check_name(name: str, names: list[str]) -> None:
    if name in names:
        return
    close = get_close_matches(name, names) or ["resnet18", "vgg16", "vit_b_16"]
    raise SupermaskError(f"torchvision has no classification model {name!r}; it has {', '.join(close)}, for example.")
