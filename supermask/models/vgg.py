"""VGG for CIFAR: 3x3 convolutions with batch norm, five poolings, one linear layer."""

from einops import reduce
from torch import Tensor, nn

from supermask.models.shape import InputShape, check_size, scaled

_STAGES = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each stage by depth: configurations A, D and E of Simonyan & Zisserman 2015, table 1."""
_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """VGG of `depth` layers with batch norm, and with one linear layer in place of three.

    Maps float images (batch, channels, height, width), of at least 16x16 pixels, to logits (batch, classes). At 3
    channels and 10 classes VGG-11 has 9,222,848 weights without batch norm and biases, VGG-16 has 14,715,584, VGG-19
    has 20,024,000.

    Source: Simonyan & Zisserman 2015, as Frankle & Carbin 2019, section 4, and Frankle et al. 2020, table 1, train it
    on CIFAR-10. A 2x2 pooling ends each stage but the last, whose channels are averaged.
    """

    def __init__(self, depth: int, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        check_size(input_shape, least=16, stages="four pooling stages")
        layers: list[nn.Module] = []
        before = input_shape[0]
        for number, (convolutions, units) in enumerate(zip(_STAGES[depth], _WIDTHS, strict=True)):
            after = scaled(units, width)
            for _ in range(convolutions):
                # without biases, which the batch norm after them would subtract again
                conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
                before = after
            if number < len(_WIDTHS) - 1:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        return self.fc(reduce(self.features(images), "b c h w -> b c", "mean"))
