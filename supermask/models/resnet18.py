"""ResNet-18 for CIFAR: the network for ImageNet without its first pooling and strides."""

from einops import reduce
from torch import Tensor, nn

from supermask.models.resnet import BasicBlock, residual_stage
from supermask.models.shape import InputShape, scaled

_WIDTHS = (64, 128, 256, 512)


class ResNet18(nn.Module):
    """Residual network of four stages of two blocks, with 64 to 512 channels.

    Maps float images (batch, channels, height, width), of any size, to logits (batch, classes). At 3 channels and 10
    classes it has 11,173,962 parameters. (Frankle & Carbin 2019 call another network, ResNet-20, "Resnet-18".)

    Source: He et al. 2016, table 1, column "18-layer", with projection shortcuts (option B). As is usual for images of
    32x32 pixels, the first convolution is 3x3 without a stride, and no pooling follows it.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        widths = [scaled(units, width) for units in _WIDTHS]
        self.conv = nn.Conv2d(input_shape[0], widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.stage1 = residual_stage(BasicBlock, widths[0], widths[0], 2, stride=1)
        self.stage2 = residual_stage(BasicBlock, widths[0], widths[1], 2, stride=2)
        self.stage3 = residual_stage(BasicBlock, widths[1], widths[2], 2, stride=2)
        self.stage4 = residual_stage(BasicBlock, widths[2], widths[3], 2, stride=2)
        self.fc = nn.Linear(widths[3], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        features = self.relu(self.norm(self.conv(images)))
        features = self.stage4(self.stage3(self.stage2(self.stage1(features))))
        return self.fc(reduce(features, "b c h w -> b c", "mean"))
