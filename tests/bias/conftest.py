"""One bank for all tests of the room: it takes half a second to make."""

from __future__ import annotations

import pytest
from bias.scene import Scene, make_scene


@pytest.fixture(scope="session")
def scene() -> Scene:
    return make_scene()
