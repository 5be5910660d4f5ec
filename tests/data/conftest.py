import os
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest


@pytest.fixture
def data_folder() -> Path:
    named = os.environ.get("SUPERMASK_DATA")
    if not named:
        pytest.skip("SUPERMASK_DATA does not name a folder with the data sets")
    return Path(named)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
