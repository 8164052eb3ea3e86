"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Results of the reference systems, and the small models that gave them."""
    return GOLDEN
