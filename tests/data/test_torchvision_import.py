import subprocess
import sys

import pytest
import torch

from supermask.errors import SupermaskError
from supermask.torchvision_import import import_torchvision


def test_a_working_torchvision_is_returned():
    assert import_torchvision().__name__ == "torchvision"


@pytest.mark.parametrize("kind", ["ImportError", "RuntimeError", "OSError", "AttributeError"])
def test_a_mismatched_build_is_explained(tmp_path, monkeypatch, kind):
    (tmp_path / "torchvision.py").write_text(f"raise {kind}('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(SupermaskError, match="force-reinstall torch torchvision") as caught:
        import_torchvision()
    assert torch.__version__ in str(caught.value)


def test_supermask_data_is_imported_without_torchvision():
    code = "import sys, supermask.data as d; d.load('digits'); assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
