"""Conv-2, Conv-4, Conv-6 and Conv-8: small VGG networks without batch norm."""

from itertools import pairwise

from torch import Tensor, nn

from supermask.models.shape import InputShape, check_size, scaled

STAGES = (64, 128, 256, 512)
"""Channels of each pair of convolutions; Conv-N takes the first N / 2 stages."""


class ConvNet(nn.Module):
    """`depth` 3x3 convolutions, 2x2 max pooling after each pair, then a perceptron 256-256-classes.

    Channels are 64, 64 | 128, 128 | 256, 256 | 512, 512, with padding 1 and ReLU. Maps float images (batch,
    channels, height, width) to logits (batch, classes). At (3, 32, 32) with 10 classes the weights without
    biases are 4,300,992 for depth 2, 2,425,024 for 4, 2,261,184 for 6 and 5,275,840 for 8. Raises
    `SupermaskError` for an input that the pooling would leave no pixel of.

    Source: Frankle & Carbin 2019, figure 2 (depths 2, 4, 6); Ramanujan et al. 2020, appendix (depth 8).
    """

    def __init__(self, depth: int, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        pools = depth // 2
        check_size(input_shape, least=2**pools, stages=f"{pools} pooling stages")
        channels, height, columns = input_shape
        widths = [channels, *(scaled(units, width) for units in STAGES[:pools])]
        self.features = nn.Sequential(*(_stage(before, after) for before, after in pairwise(widths)))
        self.flatten = nn.Flatten()
        # padding 1 keeps the sides in a convolution, so that only the pooling shrinks them
        pixels = (height // 2**pools) * (columns // 2**pools)
        self.classifier = _fully_connected(widths[-1] * pixels, classes, width)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        return self.classifier(self.flatten(self.features(images)))


def _stage(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


def _fully_connected(inputs: int, classes: int, width: float) -> nn.Sequential:
    hidden = scaled(256, width)
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )
