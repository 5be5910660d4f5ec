"""Every experiment by name: a new one is a file beside this and a line here."""

from collections.abc import Mapping

from experiments import (
    characters,
    cifar10_density,
    cifar10_searches,
    coded,
    deep_compression,
    digits,
    during_training,
    early_phase,
    failure,
    frontier,
    initialisation,
    instability,
    jackpot,
    landscape,
    lottery_tickets,
    mask_coding,
    mnist_density,
    modules,
    no_backward,
    one_weight,
    pensia_edge_popup,
    pensia_fc2,
    pensia_lenet5,
    pensia_weights,
    pretraining,
    residual_targets,
    searches,
    searches_conv,
    selection_cost,
    smallest_ticket,
    sparse_speed,
    speedrun,
    step_cost,
    strong_and_weak,
    subset_sum_rates,
    superposition,
    three_starts,
    ticket_rate,
    ticket_stability,
    trained_targets,
    weight_correlation,
    zhou_actions,
    zhou_heuristics,
)
from experiments.framework.experiment import Experiment
from supermask.errors import SupermaskError

_ALL = (
    digits.EXPERIMENT,
    mnist_density.EXPERIMENT,
    cifar10_density.EXPERIMENT,
    searches.EXPERIMENT,
    searches_conv.EXPERIMENT,
    cifar10_searches.EXPERIMENT,
    no_backward.EXPERIMENT,
    characters.EXPERIMENT,
    coded.EXPERIMENT,
    frontier.EXPERIMENT,
    during_training.EXPERIMENT,
    pensia_weights.EXPERIMENT,
    pensia_fc2.EXPERIMENT,
    pensia_lenet5.EXPERIMENT,
    trained_targets.EXPERIMENT,
    residual_targets.EXPERIMENT,
    lottery_tickets.EXPERIMENT,
    strong_and_weak.EXPERIMENT,
    instability.EXPERIMENT,
    ticket_stability.EXPERIMENT,
    early_phase.EXPERIMENT,
    weight_correlation.EXPERIMENT,
    landscape.EXPERIMENT,
    three_starts.EXPERIMENT,
    pretraining.EXPERIMENT,
    jackpot.EXPERIMENT,
    ticket_rate.EXPERIMENT,
    initialisation.EXPERIMENT,
    pensia_edge_popup.EXPERIMENT,
    one_weight.EXPERIMENT,
    failure.EXPERIMENT,
    subset_sum_rates.EXPERIMENT,
    superposition.EXPERIMENT,
    deep_compression.EXPERIMENT,
    modules.EXPERIMENT,
    smallest_ticket.EXPERIMENT,
    step_cost.EXPERIMENT,
    step_cost.ON_GPU,
    selection_cost.EXPERIMENT,
    selection_cost.ON_GPU,
    mask_coding.EXPERIMENT,
    sparse_speed.EXPERIMENT,
    speedrun.EXPERIMENT,
    zhou_heuristics.EXPERIMENT,
    zhou_actions.EXPERIMENT,
)
EXPERIMENTS: Mapping[str, Experiment] = {experiment.name: experiment for experiment in _ALL}
assert len(EXPERIMENTS) == len(_ALL), "two experiments have one name"


def named_experiment(name: str) -> Experiment:
    """Return the experiment of that name.

    Raises:
        SupermaskError: there is none.

    """
    if name not in EXPERIMENTS:
        raise SupermaskError(f"Unknown experiment {name!r}; known are {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]
