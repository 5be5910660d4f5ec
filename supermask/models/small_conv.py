"""Small convolutional networks for images of digits, whose weights are all that has to be kept."""

from einops.layers.torch import Rearrange
from torch import Tensor, nn

from supermask.models.shape import InputShape, check_size, scaled


class SmallConv(nn.Module):
    """Three unpadded convolutions, each normalised over all of its output, and a classifier; no biases.

    5x5 convolutions with 16 and 32 channels, each followed by 2x2 max pooling, and a 3x3 convolution with 48 channels.
    After each comes group norm with one group, which learns nothing and, unlike batch norm, has no statistics to store,
    and ReLU. A ticket of this network is its seed and its masks alone.

    Maps float images (batch, channels, height, width) to logits (batch, classes); 28,944 weights and no other
    parameters at (1, 28, 28) with 10 classes. Raises `SupermaskError` for an input below 24x24.

    Source: the stages of LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, section II.B) with a third convolution for its
    fully connected layers; group norm of Wu & He 2018 with one group, section 3.2.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        # 24 -> 20 (unpadded 5x5) -> 10 (pool) -> 6 (unpadded 5x5) -> 3 (pool) -> 1 (unpadded 3x3)
        check_size(input_shape, least=24, stages="unpadded convolutions and 2 pooling stages")
        channels, height, columns = input_shape
        first, second, third = (scaled(units, width) for units in (16, 32, 48))
        self.features = nn.Sequential(
            *_stage(channels, first, 5, pooled=True),
            *_stage(first, second, 5, pooled=True),
            *_stage(second, third, 3, pooled=False),
            Rearrange("b c h w -> b (c h w)"),
        )
        self.classifier = nn.Linear(third * _side_after(height) * _side_after(columns), classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        return self.classifier(self.features(images))


class TinyConv(nn.Module):
    """The first two stages of `SmallConv` and a classifier: less for a file to tell.

    Maps float images (batch, channels, height, width) to logits (batch, classes); 18,320 weights and no other
    parameters at (1, 28, 28) with 10 classes. Raises `SupermaskError` for an input below 16x16.

    Source: as `SmallConv`.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        # 16 -> 12 (unpadded 5x5) -> 6 (pool) -> 2 (unpadded 5x5) -> 1 (pool)
        check_size(input_shape, least=16, stages="unpadded convolutions and pooling stages")
        channels, *sides = input_shape
        first, second = (scaled(units, width) for units in (16, 32))
        self.features = nn.Sequential(
            *_stage(channels, first, 5, pooled=True),
            *_stage(first, second, 5, pooled=True),
            Rearrange("b c h w -> b (c h w)"),
        )
        height, columns = (_side_after_two(side) for side in sides)
        self.classifier = nn.Linear(second * height * columns, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        return self.classifier(self.features(images))


class SmallVGG(nn.Module):
    """`SmallConv` with two 3x3 convolutions in place of each but the first.

    A 5x5 convolution with 32 channels and 2x2 max pooling, two 3x3 convolutions with 48 channels and pooling, and two
    with 64. Each is unpadded, except the first with 64 channels, and is followed by group norm with one group and ReLU,
    as in `SmallConv`; there is nothing but masks to keep. It has about as many weights as `SmallConv` at 1.9 times its
    width.

    Maps float images (batch, channels, height, width) to logits (batch, classes); 102,432 weights and no other
    parameters at (1, 28, 28) with 10 classes. Raises `SupermaskError` for an input below 24x24.

    Source: as `SmallConv`; pairs of 3x3 convolutions of Simonyan & Zisserman 2015, section 2.3.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        # 24 -> 20 (unpadded 5x5) -> 10 (pool) -> 8 -> 6 (unpadded 3x3) -> 3 (pool) -> 3 (padded) -> 1 (unpadded 3x3)
        check_size(input_shape, least=24, stages="unpadded convolutions and 2 pooling stages")
        channels, height, columns = input_shape
        first, second, third = (scaled(units, width) for units in (32, 48, 64))
        self.features = nn.Sequential(
            *_stage(channels, first, 5, pooled=True),
            *_stage(first, second, 3, pooled=False),
            *_stage(second, second, 3, pooled=True),
            *_stage(second, third, 3, pooled=False, padding=1),
            *_stage(third, third, 3, pooled=False),
            Rearrange("b c h w -> b (c h w)"),
        )
        # two unpadded 3x3 convolutions take 4 away, as one of 5x5 does
        self.classifier = nn.Linear(third * _side_after(height) * _side_after(columns), classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        return self.classifier(self.features(images))


def _stage(before: int, after: int, kernel: int, *, pooled: bool, padding: int = 0) -> list[nn.Module]:
    pooling = [nn.MaxPool2d(2)] if pooled else []
    # pooled before it is normalised, which takes a quarter of the time
    return [
        nn.Conv2d(before, after, kernel, padding=padding, bias=False),
        *pooling,
        nn.GroupNorm(1, after, affine=False),
        nn.ReLU(),
    ]


def _side_after(side: int) -> int:
    return _side_after_two(side) - 2  # an unpadded 3x3 convolution takes 2 away


def _side_after_two(side: int) -> int:
    return ((side - 4) // 2 - 4) // 2  # an unpadded 5x5 convolution takes 4 away, and pooling halves
