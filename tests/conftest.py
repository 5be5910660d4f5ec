import pytest
import torch
from matplotlib.figure import Figure

# Small networks gain nothing from more threads, and results then do not depend on the machine's cores. The number is
# set here because fixtures of modules run before those of tests: they would compute with all cores, in other last bits.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread():
    """Keeps a test that sets another number of threads from setting it for those that follow."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def blank_plots(monkeypatch):
    """Plots are made and not drawn, which would take longer than the short runs that they are of."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(b"\x89PNG"))
