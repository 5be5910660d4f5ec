"""What tests of files share."""

import pytest
from small_tickets import tiny


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a file that is in order."""
    path = tmp_path_factory.mktemp("sound") / "tiny.ticket"
    tiny().save(path)
    return path.read_bytes()
