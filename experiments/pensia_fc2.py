"""Pensia et al. 2020, experiment 1, as one real masked random network: their trained 784-500-10 network on MNIST."""

from experiments.framework.building import BUILT, Building, plot_errors
from experiments.framework.experiment import Experiment, Group, Published
from experiments.framework.pensia import PensiaNetwork

SEEDS = (0, 1, 2)
TARGET = PensiaNetwork("fc2.pt", normalized=False)

EXPERIMENT = Experiment(
    name="pensia_fc2",
    title="Pensia et al. 2020, experiment 1, as one masked random network",
    source=(
        "The authors approximate each of the 397,000 weights of a trained 784-500-10 network by a subset sum of "
        "21 numbers, weight by weight, to 0.01 each: 97.19 % on MNIST as the target, 3,725,871 of 8,337,000 "
        "numbers kept, 77,266 s on 36 cores with a commercial solver (pensia_weights does the same). Here the "
        "target is built in one random network of twice its layers, 64 hidden units per input, drawn once; the "
        "masked network is run in float64 on the test set and certified over the unit ball (l2), with epsilon "
        "0.01. The second row has the blocks of its first hops alone (grouped), holds over the nonnegative part of the "
        "ball, and prunes the one draw again until the bound is between 0.9 epsilon and epsilon. The target is the "
        "authors' own (fc2.pt)."
    ),
    groups=(
        Group(
            "relu_diamond, width 64",
            tuple(Building(TARGET, seed, "relu_diamond", epsilon=0.01, radius=1.0, width=64) for seed in SEEDS),
            Published("9,719", "the authors' repository, acnagle/optimal-lottery-tickets", "97.19 % of 10,000"),
        ),
        Group(
            "pixels from 0 on, epsilon spent",
            tuple(
                Building(
                    TARGET,
                    seed,
                    "relu_diamond",
                    epsilon=0.01,
                    radius=1.0,
                    grouped=True,
                    nonnegative=True,
                    calibrate=True,
                )
                for seed in SEEDS
            ),
        ),
    ),
    table=BUILT,
    plot=plot_errors,
)
