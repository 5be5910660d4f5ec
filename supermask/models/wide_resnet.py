"""Wide residual networks: depth 6n + 4, three pre-activation stages of 16k, 32k and 64k channels."""

from einops import reduce
from torch import Tensor, nn

from supermask.models.resnet import residual_stage
from supermask.models.shape import InputShape, scaled


class PreActivationBlock(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice, added to the input.

    Maps (batch, before, height, width) to (batch, after, ceil(height / stride), ceil(width / stride)).

    Source: Zagoruyko & Komodakis 2016, figure 1(c). As in the authors' code, a projection
    shortcut reads the input after its batch norm and ReLU, an identity shortcut the input itself.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut = _projection(before, after, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (batch, after, height / stride, width / stride), rounded up, of the inputs."""
        activated = self.relu1(self.norm1(inputs))
        residual = self.conv2(self.relu2(self.norm2(self.conv1(activated))))
        return residual + (inputs if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """WRN-depth-factor: `depth` = 6n + 4 layers, `factor` times as wide as the plain residual network.

    Maps float images (batch, channels, height, width), of any size, to logits (batch, classes). At 3 channels
    and 10 classes WRN-28-10 has 36,479,194 parameters, WRN-16-8 10,961,370 and WRN-40-2 2,243,546. `width`
    multiplies the first convolution's 16 channels too, `factor` does not.

    Source: Zagoruyko & Komodakis 2016, tables 1 and 4, without dropout.
    """

    def __init__(self, depth: int, factor: int, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        stem, *stages = (scaled(units, width) for units in (16, 16 * factor, 32 * factor, 64 * factor))
        self.conv = nn.Conv2d(input_shape[0], stem, 3, padding=1, bias=False)
        self.stage1 = residual_stage(PreActivationBlock, stem, stages[0], blocks, stride=1)
        self.stage2 = residual_stage(PreActivationBlock, stages[0], stages[1], blocks, stride=2)
        self.stage3 = residual_stage(PreActivationBlock, stages[1], stages[2], blocks, stride=2)
        self.norm = nn.BatchNorm2d(stages[2])
        self.relu = nn.ReLU()
        self.fc = nn.Linear(stages[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        features = self.stage3(self.stage2(self.stage1(self.conv(images))))
        features = self.relu(self.norm(features))
        return self.fc(reduce(features, "b c h w -> b c", "mean"))


def _projection(before: int, after: int, stride: int) -> nn.Conv2d | None:
    # the stride counts too: a small width can give two stages equally many channels
    if before == after and stride == 1:
        return None
    return nn.Conv2d(before, after, 1, stride=stride, bias=False)
