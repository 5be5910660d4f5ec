"""The one place that imports torchvision, so that a mismatched build is explained instead of traced back."""

import importlib
from types import ModuleType

import torch

from supermask.errors import SupermaskError


def import_torchvision() -> ModuleType:
    """Return the module `torchvision`, imported now and not when supermask is.

    Raises:
        SupermaskError: torchvision is absent, or was compiled for another torch than the one installed.
    """
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:  # which one depends on the builds
        raise SupermaskError(
            f"torchvision cannot be imported with this torch build ({torch.__version__}); both must come "
            "from the same ordinary registry build: "
            "`python -m pip install --force-reinstall torch torchvision`."
        ) from error
