"""The LeNets: the multilayer perceptron 300-100, the convolutional LeNet-5, and the one that Caffe calls so."""

from einops.layers.torch import Rearrange
from torch import Tensor, nn

from supermask.models.shape import InputShape, check_size, scaled


class LeNet300100(nn.Module):
    """Multilayer perceptron with hidden layers of 300 and 100 ReLU units.

    Maps float images (batch, channels, height, width) to logits (batch, classes); 266,200 weights and 410
    biases at (1, 28, 28) with 10 classes.

    Source: LeCun, Bottou, Bengio & Haffner 1998, section III.C; ReLU as in Frankle & Carbin 2019.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        channels, height, columns = input_shape
        first, second = scaled(300, width), scaled(100, width)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(channels * height * columns, first)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(first, second)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(second, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        hidden = self.relu1(self.fc1(self.flatten(images)))
        return self.fc3(self.relu2(self.fc2(hidden)))


class LeNet5(nn.Module):
    """Convolutional LeNet-5 with ReLU and 2x2 max pooling.

    5x5 convolutions with 6 channels (padding 2) and 16 channels (no padding), each followed by ReLU and
    pooling, then fully connected layers of 120, 84 and `classes` units. The original pools by learned
    averages, uses tanh and ends in radial basis functions.

    Maps float images (batch, channels, height, width) to logits (batch, classes); 61,470 weights and 236
    biases at (1, 28, 28) with 10 classes. Raises `SupermaskError` for an input below 12x12.

    Source: LeCun, Bottou, Bengio & Haffner 1998, section II.B and figure 2.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        # 12 -> 6 (pool) -> 2 (unpadded 5x5) -> 1 (pool)
        check_size(input_shape, least=12, stages="5x5 convolutions and 2 pooling stages")
        channels, height, columns = input_shape
        first, second = scaled(6, width), scaled(16, width)
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            Rearrange("b c h w -> b (c h w)"),
        )
        pixels = _side_after_features(height) * _side_after_features(columns)
        self.classifier = _fully_connected(second * pixels, classes, width)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        return self.classifier(self.features(images))


class LeNet5Caffe(nn.Module):
    """The network that Caffe's MNIST example calls LeNet, and papers on compression LeNet-5.

    5x5 convolutions without padding with 20 and 50 channels, each followed by 2x2 max pooling and by no other
    nonlinearity, then 500 ReLU units and `classes` outputs.

    Maps float images (batch, channels, height, width) to logits (batch, classes); 430,500 weights and 580 biases at
    (1, 28, 28) with 10 classes. Raises `SupermaskError` for an input below 16x16.

    Source: Caffe, examples/mnist/lenet_train_test.prototxt; the LeNet-5 of 431K parameters of Han, Mao & Dally 2016,
    table 3.
    """

    def __init__(self, *, input_shape: InputShape, classes: int, width: float = 1.0) -> None:
        super().__init__()
        # 16 -> 12 (unpadded 5x5) -> 6 (pool) -> 2 (unpadded 5x5) -> 1 (pool)
        check_size(input_shape, least=16, stages="unpadded 5x5 convolutions and 2 pooling stages")
        channels, height, columns = input_shape
        first, second, hidden = scaled(20, width), scaled(50, width), scaled(500, width)
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 5),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 5),
            nn.MaxPool2d(2),
            Rearrange("b c h w -> b (c h w)"),
        )
        pixels = _side_after_caffe(height) * _side_after_caffe(columns)
        self.classifier = nn.Sequential(nn.Linear(second * pixels, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        return self.classifier(self.features(images))


def _side_after_features(side: int) -> int:
    # padding 2 keeps the side in the first 5x5 convolution; the second takes 4 away
    return (side // 2 - 4) // 2


def _side_after_caffe(side: int) -> int:
    # each unpadded 5x5 convolution takes 4 away
    return ((side - 4) // 2 - 4) // 2


def _fully_connected(inputs: int, classes: int, width: float) -> nn.Sequential:
    first, second = scaled(120, width), scaled(84, width)
    return nn.Sequential(
        nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, classes)
    )
