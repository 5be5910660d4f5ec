"""The residual networks for CIFAR: depth 6n + 2, three stages of 16, 32 and 64 channels."""

from collections.abc import Callable
from functools import partial

from einops import reduce
from torch import Tensor, nn

from supermask.models.shape import InputShape, scaled


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input; the second ReLU follows the sum.

    Maps (batch, before, height, width) to (batch, after, ceil(height / stride), ceil(width / stride)). Without
    `residual` nothing is added: the plain network of the same paper.

    Source: He et al. 2016, figure 2; a projection shortcut where the shape changes (option B of section 4.1).
    """

    def __init__(self, before: int, after: int, stride: int, *, residual: bool = True) -> None:
        super().__init__()
        # without biases, which the batch norm after them would subtract again
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = _shortcut(before, after, stride) if residual else None
        # after the shortcut: modules are registered in the order that they run
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (batch, after, height / stride, width / stride), rounded up, of the inputs."""
        features = self.relu1(self.norm1(self.conv1(inputs)))
        features = self.norm2(self.conv2(features))
        return self.relu2(features if self.shortcut is None else features + self.shortcut(inputs))


class ResNet(nn.Module):
    """Residual network of `depth` = 6n + 2 layers: a convolution, three stages of n blocks, a classifier.

    Maps float images (batch, channels, height, width), of any size, to logits (batch, classes). At 3 channels
    and 10 classes ResNet-20 has 270,896 weights without batch norm and biases: 267,696 in its 3x3
    convolutions, 2,560 in its shortcuts and 640 in its classifier.

    Args:
        depth: layers with weights on the longest path.
        residual: add the input of a block to its output; without, it is the plain twin (He et al. 2016, section 4.1).
        input_shape: (channels, height, width).
        classes: number of logits.
        width: multiplies the hidden widths.

    Source: He et al. 2016, section 4.2 and table 6; with the projection shortcuts of Frankle & Carbin 2019,
    appendix I, who call ResNet-20 "ResNet-18".
    """

    def __init__(
        self, depth: int, *, residual: bool = True, input_shape: InputShape, classes: int, width: float = 1.0
    ) -> None:
        super().__init__()
        block = partial(BasicBlock, residual=residual)
        # three stages of blocks with two convolutions; the other two layers are the first and the last
        blocks = (depth - 2) // 6
        stem, *stages = (scaled(units, width) for units in (16, 16, 32, 64))
        self.conv = nn.Conv2d(input_shape[0], stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.stage1 = residual_stage(block, stem, stages[0], blocks, stride=1)
        self.stage2 = residual_stage(block, stages[0], stages[1], blocks, stride=2)
        self.stage3 = residual_stage(block, stages[1], stages[2], blocks, stride=2)
        self.fc = nn.Linear(stages[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        features = self.relu(self.norm(self.conv(images)))
        features = self.stage3(self.stage2(self.stage1(features)))
        return self.fc(reduce(features, "b c h w -> b c", "mean"))


def residual_stage(
    block: Callable[[int, int, int], nn.Module], before: int, after: int, blocks: int, *, stride: int
) -> nn.Sequential:
    """Chain `blocks` blocks, made by `block(before, after, stride)`; only the first changes the shape."""
    first = block(before, after, stride)
    return nn.Sequential(first, *(block(after, after, 1) for _ in range(blocks - 1)))


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    # the stride counts too: a small width can give two stages equally many channels
    if before == after and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(before, after, 1, stride=stride, bias=False),
        nn.BatchNorm2d(after),
    )
