"""The conformance suite of each backend, and ``tests/gpu``, a report a test."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from typing import Any

import pytest

from benchmarks.gpu_parts.part import ROOT, Context

CONFORMANCE = "tests/backends/test_conformance.py"
# What a backend's suite needs to be set before its libraries are loaded.
ENVIRONMENT = {"onnxruntime-tensorrt": {"NVIDIA_TF32_OVERRIDE": "0"}}
# In the quick form one backend's fast tests stand for all.
QUICK = "seed or samples or closed or fingerprint"


class Recorder:
    """A plug-in of pytest that reports each test as it ends."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.outcomes: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.partition("::")[2]
        if report.when == "call" or report.outcome != "passed":
            reason = ""
            if report.outcome == "skipped":
                reason = str(report.longrepr[2]).removeprefix("Skipped: ")
            elif report.outcome == "failed":
                reason = str(getattr(report.longrepr, "reprcrash", report.longrepr))[-300:]
            self.outcomes[name] = {
                "outcome": report.outcome, "seconds": round(report.duration, 2), "reason": reason
            }  # fmt: skip
            self._context.record(tests=self.outcomes)
            counts = Counter(row["outcome"] for row in self.outcomes.values())
            self._context.figure(", ".join(f"{n} {outcome}" for outcome, n in counts.items()))


def conformance(context: Context) -> None:
    """The suite of the backend that the part's arguments name."""
    name = context.backend_name(context.arguments[0])
    os.environ |= ENVIRONMENT.get(name, {})
    probe = context.backend_class(name).probe()
    context.record(backend=name, probe={"status": probe.status, "reason": probe.reason})
    if not probe.usable:
        context.skip(f"{name} is {probe.status}: {probe.reason}")
    module = importlib.import_module("tests.backends.test_conformance")
    (suite,) = [
        attribute
        for attribute, value in vars(module).items()
        if isinstance(value, type)
        and getattr(getattr(value, "backend_class", None), "name", None) == name
    ][:1]
    _pytest(context, f"{CONFORMANCE}::{suite}")


def gpu_tests(context: Context) -> None:
    """``tests/gpu``."""
    _pytest(context, "tests/gpu")


def _pytest(context: Context, what: str) -> None:
    recorder = Recorder(context)
    arguments = [
        # Settings of the project's own, of which what is not installed here may be a part.
        "-o", "addopts=--import-mode=importlib", "--noconftest", "-p", "no:cacheprovider",
        "--rootdir", str(ROOT), "-q", "-ra", what,
    ]  # fmt: skip
    if context.quick:
        arguments += ["-k", QUICK]
    context.record(pytest=" ".join(arguments))
    code = pytest.main(arguments, plugins=[recorder])
    outcomes = recorder.outcomes
    skipped = [row for row in outcomes.values() if row["outcome"] == "skipped"]
    if outcomes and len(skipped) == len(outcomes):
        context.skip(skipped[0]["reason"])
    failed = [name for name, row in outcomes.items() if row["outcome"] == "failed"]
    context.check("all tests pass", not failed, ", ".join(failed))
    none_collected = code == pytest.ExitCode.NO_TESTS_COLLECTED
    if none_collected and context.quick:
        context.skip("none of its tests is in the quick form")
    context.check(
        "pytest ran",
        code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED),
        f"exit code {code}",
    )
