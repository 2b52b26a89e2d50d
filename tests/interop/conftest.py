"""Foreign implementations that are installed once for a run of the tests."""

from __future__ import annotations

import pytest

from tests.interop.install import Installed
from tests.support_interop import javascript


@pytest.fixture(scope="session")
def js() -> Installed:
    return javascript()
