"""Options that the commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from tyro.conf import arg

from supermask import data, models
from supermask.data.own import OWN_HINT
from supermask.errors import SupermaskError
from supermask.imported import PLACE
from supermask.random.weights import checked_seed
from supermask.runs.device import checked_device
from supermask.search.algorithm import SettingName
from supermask.training import Recipe
from supermask.training.processes import launched, own_device

MODELS = f"{', '.join([*models.known(), *models.TOKEN_MODELS])}, or {models.TORCHVISION_HINT}"
DATA_SETS = ", ".join(data.known())

ModelName = Annotated[
    str,
    arg(
        help=f"Network: {MODELS}, or your own module:factory. Before a name, binary: makes its activations binary,"
        " folded: lets equal blocks share weights, straight: sets images upright."
    ),
]
"""The type of a command's field that names a network."""

DataName = Annotated[str, arg(help=f"Data set: {DATA_SETS}; or {OWN_HINT}.")]
"""The type of a command's field that names a data set."""

TicketModel = Annotated[
    str | None,
    arg(help=f"The ticket's model, where it is your own code ({PLACE}): a file alone lets nothing be imported."),
]
"""The type of a field that names the model of a ticket."""

TicketData = Annotated[
    str | None,
    arg(help="Data set; by default the one that the ticket was found on, if it is not of your own files or code."),
]
"""The type of a field that names the data set of a ticket."""

LossName = Annotated[
    str | None,
    arg(metavar="NAME", help="cross_entropy, mse or module:function."),
]
"""The type of a field that names a loss. Its help is short, because that of a comparison has 80 lines."""

Setting = Annotated[
    SettingName,
    arg(help="How methods train; see --help METHOD."),
]
"""The type of a command's field that says which setting of a method is used."""

MOST_THREADS = 1024
"""Threads that a command may ask for: more than any machine has cores, and few enough to be started."""
DIGITS = Recipe(epochs=40, batch_size=64, best="auto")
"""What all commands start from: on the digits 800 steps."""


@dataclass(frozen=True)
class Common:
    """Where a command runs and what it leaves behind."""

    seed: int = 0
    """Seed for the weights, the scores, the validation split and the order of the examples."""

    device: str = "auto"
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1, ...; under torchrun, cuda is one for each."""

    threads: int = 0
    """CPU threads; 0 leaves the number to PyTorch. Another number may change the last bits of a result."""

    data_folder: Path | None = None
    """Folder of the data sets; by default $SUPERMASK_DATA, else ./data."""

    def prepare(self) -> str:
        """Set the threads and return the device.

        Raises:
            SupermaskError: the device is unknown or not there, or one GPU for several processes.

        """
        checked_seed(self.seed)
        if not 0 <= self.threads <= MOST_THREADS:
            raise SupermaskError(f"--threads {self.threads} is out of range; give 0 or up to {MOST_THREADS} threads.")
        if self.threads:
            torch.set_num_threads(self.threads)
        device = checked_device(self.device)
        if ":" in device and launched()[1] > 1:
            raise SupermaskError(
                f"--device {device} is one GPU for several processes; give cuda, for one each, or cpu."
            )
        return str(own_device(device))


def names_in(option: str, text: str) -> tuple[str, ...]:
    """Return the parts of a list, each once.

    Args:
        option: that the list was given for.
        text: names, separated by commas.

    Raises:
        SupermaskError: there are none.

    """
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise SupermaskError(f"{option} is empty; give at least one, several separated by commas.")
    return parts


def numbers_in(option: str, text: str) -> tuple[float, ...]:
    """Return the numbers of a list as `names_in` does."""
    parts = names_in(option, text)
    try:
        return tuple(dict.fromkeys(map(float, parts)))
    except ValueError:
        raise SupermaskError(f"{option} {text!r} is not a list of numbers; separate them by commas.") from None
