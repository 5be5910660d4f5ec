"""The LeNet-5 of Pensia et al. 2020 in one random network, through the convolution construction of da Cunha et al."""

from experiments.framework.building import BUILT, Building, plot_errors
from experiments.framework.experiment import Experiment, Group
from experiments.framework.pensia import PensiaNetwork

SEEDS = (0, 1)
TARGET = PensiaNetwork("LeNet5_e50_h500.pt", normalized=True)
LARGEST_IMAGE = 45.0
"""No image of MNIST, normalised, has a larger l2 norm, so the certificate holds on every one of them."""

EXPERIMENT = Experiment(
    name="pensia_lenet5",
    title="LeNet-5 of Pensia et al. 2020 as one masked random network",
    source=(
        "The authors publish a trained LeNet-5 with max pooling and without biases (LeNet5_e50_h500.pt; normalised"
        " pixels; by their code its convolutions were never trained) beside edge-popup on redundant networks. Da"
        " Cunha et al. 2022 approximate the convolutions of a LeNet-5 weight by weight, each from coefficients of its"
        " own. Here the whole network is built in one random network: a 1x1 convolution and a 5x5 one for each"
        " convolution, two layers for each fully connected one, widths chosen from epsilon = 0.01 over a ball that"
        " holds all images of MNIST, so that the certificate holds on each of them."
    ),
    groups=(
        Group(
            "LeNet-5, convolution",
            tuple(Building(TARGET, seed, "convolution", epsilon=0.01, radius=LARGEST_IMAGE) for seed in SEEDS),
        ),
    ),
    table=BUILT,
    plot=plot_errors,
)
