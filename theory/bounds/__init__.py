"""Each theorem as a function: how much randomness is enough, and how little cannot be.

`STATEMENTS[name]` says where the theorem stands, its unit, which way it points and how sure its formula is. A docstring
says what is proven, what is fitted and what is measured. A constant that the paper leaves open is the required keyword
`constant`; `laws.fit_constant` fits it. Counts are whole numbers, rounded up.
"""

from theory.bounds.architectures import (
    burkholz_parameters,
    burkholz_widths,
    cunha_channels,
    cunha_parameters,
    orseau_neurons_per_weight,
)
from theory.bounds.malach import malach_pairs, malach_products, malach_widths
from theory.bounds.natale import binary_entropy, natale_items, natale_parameters, natale_widths
from theory.bounds.pensia import (
    packing_parameters,
    packing_parameters_at_density,
    parameter_count,
    pensia_items,
    pensia_parameters,
    pensia_widths,
)
from theory.bounds.statement import STATEMENTS, Statement
from theory.bounds.subset_sum import (
    LUEKER_CONSTANT_FLOOR,
    information_items,
    information_success,
    lueker_failure,
    lueker_items,
)

__all__ = [
    "LUEKER_CONSTANT_FLOOR",
    "STATEMENTS",
    "Statement",
    "binary_entropy",
    "burkholz_parameters",
    "burkholz_widths",
    "cunha_channels",
    "cunha_parameters",
    "information_items",
    "information_success",
    "lueker_failure",
    "lueker_items",
    "malach_pairs",
    "malach_products",
    "malach_widths",
    "natale_items",
    "natale_parameters",
    "natale_widths",
    "orseau_neurons_per_weight",
    "packing_parameters",
    "packing_parameters_at_density",
    "parameter_count",
    "pensia_items",
    "pensia_parameters",
    "pensia_widths",
]
