"""Networks are trained on one thread here."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_thread):
    return one_thread
