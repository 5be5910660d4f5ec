import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks gain nothing from more threads, and results then do not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
