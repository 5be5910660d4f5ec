import pytest
import torch
from matplotlib.figure import Figure


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks gain nothing from more threads, and results then do not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def blank_plots(monkeypatch):
    """Plots are made and not drawn, which would take longer than the short runs that they are of."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(b"\x89PNG"))
