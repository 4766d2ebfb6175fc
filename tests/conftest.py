"""Skipped tests fail, except those that are marked `hardware`."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

import pytest
import torch
from _pytest._code.code import ExceptionChainRepr
from accelerate.state import AcceleratorState

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

THREADS = torch.get_num_threads()


def pytest_collection_finish() -> None:
    """Stop if the import of a test module or of a package changed the number of threads for all tests."""
    if torch.get_num_threads() != THREADS:
        raise pytest.UsageError(f"An import set {torch.get_num_threads()} threads, where there were {THREADS}.")


def _fail_if_skipped(report: Report, node: pytest.Item | pytest.Collector) -> Report:
    """Turn a skip of `node` into a failure; expected failures and tests marked `hardware` are not changed."""
    if report.skipped and not hasattr(report, "wasxfail") and node.get_closest_marker("hardware") is None:
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = (
            f"{node.nodeid} was skipped ({reason}), and skipped tests count as failures. Install what it needs, "
            "or mark the test `hardware` if it needs a device that this machine lacks."
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _fail_if_skipped((yield), item)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _fail_if_skipped((yield), collector)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a test that failed at once, with its error: a run that is stopped by a time limit prints no summary."""
    if report.failed and isinstance(report.longrepr, ExceptionChainRepr):
        crash = report.longrepr.reprcrash
        sys.stdout.write(f"\n{report.nodeid}: {report.when} failed: {crash.message if crash else report.longrepr}\n")


@pytest.fixture(autouse=True)
def _precision_may_change() -> Generator[None]:
    """Let every test choose its precision, which the first Accelerator fixes for the process.

    Without this, tests would fail on a CPU with instructions for bfloat16, where `auto` is another precision than "no".
    """
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.fixture
def one_thread() -> Generator[None]:
    """Compute with one thread, so that sums are added in the same order in every run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def browser() -> Generator[Browser]:
    """A browser for all tests of a process: Playwright cannot be started twice in one."""
    from browsing import started_browser  # here, since most tests need no browser

    with started_browser() as started:
        yield started
