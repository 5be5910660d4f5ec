"""Every method by name: a new one is a file in `supermask/baselines/` and a line here; a search is here by itself."""

from difflib import get_close_matches

from supermask.baselines.at_initialisation import (
    SNIP,
    ConcreteTickets,
    GraSP,
    MagnitudeAtInitialisation,
    RandomERK,
    RandomSmartRatio,
    RandomUniform,
    SynFlow,
)
from supermask.baselines.channel_pruning.channel_tickets import ChannelTickets
from supermask.baselines.channel_pruning.early_bird import EarlyBird
from supermask.baselines.channel_pruning.filter_pruning import FilterPruning
from supermask.baselines.channel_pruning.structured_sparsity import StructuredSparsity
from supermask.baselines.deep_compression import DeepCompression
from supermask.baselines.dense import DenseTraining
from supermask.baselines.during_training import ADMM, L0, SET, Gradual, RigL, VariationalDropout
from supermask.baselines.heuristic import Heuristic, HeuristicTrained
from supermask.baselines.low_rank import Pufferfish
from supermask.baselines.random_mask import RandomMaskRule
from supermask.baselines.rounds import (
    IMP,
    FineTune,
    Han,
    IMPRewind,
    LearningRateRewind,
    OneShot,
    OptimalBrainDamage,
    ScratchB,
    ScratchE,
)
from supermask.baselines.searched_then_trained import SearchedThenTrained
from supermask.errors import SupermaskError
from supermask.search.algorithm import Algorithm
from supermask.search.edge_popup import EdgePopupRule
from supermask.search.registry import RULES
from supermask.shown import quoted

_ALL: tuple[Algorithm, ...] = (
    EdgePopupRule(),
    DenseTraining(),
    RandomMaskRule(),
    SearchedThenTrained(),
    *(rule() for rule in RULES if rule is not EdgePopupRule),
    SNIP(),
    GraSP(),
    SynFlow(),
    MagnitudeAtInitialisation(),
    ConcreteTickets(),
    IMP(),
    OneShot(),
    IMPRewind(),
    LearningRateRewind(),
    FineTune(),
    Han(),
    OptimalBrainDamage(),
    DeepCompression(),
    ScratchE(),
    ScratchB(),
    RandomUniform(),
    RandomERK(),
    RandomSmartRatio(),
    Gradual(),
    RigL(),
    SET(),
    ADMM(),
    L0(),
    VariationalDropout(),
    FilterPruning(),
    StructuredSparsity(),
    ChannelTickets(),
    EarlyBird(),
    Pufferfish(),
    Heuristic(),
    HeuristicTrained(),
)
METHODS: dict[str, Algorithm] = {method.name: method for method in _ALL}
"""Every method with its default options."""
assert len(METHODS) == len(_ALL), "two methods have one name"


def named_method(name: str) -> Algorithm:
    """Return the method of that name with its default options.

    Raises:
        SupermaskError: there is none.

    """
    if name not in METHODS:
        close = "".join(f" (perhaps {match})" for match in get_close_matches(name, METHODS, n=1))
        raise SupermaskError(f"Unknown method {quoted(name)}{close}; known are {', '.join(METHODS)}.")
    return METHODS[name]
