"""Fixtures for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from helpers_worker import Worker
from hypothesis import settings

import pyrnn
from pyrnn import _core

# The same examples in every run; `pytest --hypothesis-profile=explore` looks further.
settings.register_profile("pyrnn", deadline=None, max_examples=150, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=3000)
settings.load_profile("pyrnn")

# A job in the background of a script ignores Ctrl-C, and so would the processes that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_threads_at_start = pyrnn.get_num_threads()


@pytest.fixture(autouse=True)
def _same_threads() -> None:
    """Each test starts with as many threads as the first, whatever those before it, or fixtures
    that several of them share, have set.
    """
    if pyrnn.get_num_threads() != _threads_at_start:
        pyrnn.set_num_threads(_threads_at_start)


@pytest.fixture
def threads_whatever_the_load() -> Iterator[None]:
    """As many threads as a test asks for: a busy machine, which more threads than processors make
    one, would for a while leave one to each call, and nothing to be compared.
    """
    _core.heed_load(False)
    yield
    _core.heed_load(True)


@pytest.fixture(params=["kernels", "reference"])
def each_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on the kernels and on the reference."""
    with pyrnn.backend(request.param):
        yield request.param


@pytest.fixture(scope="session")
def isa_workers() -> Iterator[dict[str, Worker]]:
    """One process per instruction set of this machine, forced by PYRNN_ISA."""
    workers = {isa: Worker(PYRNN_ISA=isa) for isa in _core.available_isas()}
    yield workers
    for worker in workers.values():
        worker.close()
