"""MobileNet for CIFAR: depthwise convolutions, each followed by one of a single pixel."""

from einops import reduce
from torch import Tensor, nn

from supermask.models.shape import InputShape, scaled

_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels and stride of each block: Howard et al. 2017, table 1."""


class SeparableBlock(nn.Module):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution, each with batch norm and ReLU.

    Maps (batch, before, height, width) to (batch, after, ceil(height / stride), ceil(width / stride)).

    Source: Howard et al. 2017, figure 3.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(before, before, 3, stride=stride, padding=1, groups=before, bias=False)
        self.norm1 = nn.BatchNorm2d(before)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(before, after, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (batch, after, height / stride, width / stride), rounded up, of the inputs."""
        features = self.relu1(self.norm1(self.depthwise(inputs)))
        return self.relu2(self.norm2(self.pointwise(features)))


class MobileNet(nn.Module):
    """MobileNet (version 1) for small images: a convolution, thirteen separable blocks, a classifier.

    Maps float images (batch, channels, height, width), of any size, to logits (batch, classes). At 3 channels and 10
    classes it has 3,217,226 parameters. The first convolution and the first block keep the size, so that 32x32 pixels
    become 2x2, which are averaged.

    Source: Howard et al. 2017, table 1, for ImageNet, where the first convolution has stride 2 and the classifier 1,000
    classes; with those it has the 4.2 million parameters of their table 4.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        before = scaled(32, width)
        self.conv = nn.Conv2d(input_shape[0], before, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(before)
        self.relu = nn.ReLU()
        blocks: list[nn.Module] = []
        for units, stride in _BLOCKS:
            after = scaled(units, width)
            blocks.append(SeparableBlock(before, after, stride))
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        features = self.blocks(self.relu(self.norm(self.conv(images))))
        return self.fc(reduce(features, "b c h w -> b c", "mean"))
