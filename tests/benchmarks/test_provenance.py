"""Where a number comes from is known on every system, or said not to be."""

import builtins
import platform
import subprocess
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.provenance import provenance

INTEL = "processor\t: 0\nmodel name\t: Some Processor 3\nflags\t\t: fpu\n"
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(("cpuinfo", "name"), [(INTEL, "Some Processor 3"), (ARM, "0x41 0xd0c"), ("", "as Python has it")])
def test_the_processor_has_a_name_under_linux(cpuinfo, name, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "processor", lambda: "as Python has it")
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: cpuinfo)
    assert provenance()["machine"]["processor"] == name


def test_the_processor_has_a_name_under_macos(monkeypatch):
    run = subprocess.run

    def sysctl(command, **arguments):
        answer = ["echo", "Apple M4"] if command == ["sysctl", "-n", "machdep.cpu.brand_string"] else command
        return run(answer, **arguments)

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", sysctl)
    assert provenance()["machine"]["processor"] == "Apple M4"


@pytest.fixture
def without(monkeypatch):
    """Lets a module be missing when the commands first import something."""

    def leave_out(module):
        real = builtins.__import__

        def without(name, *arguments):
            if name == "benchmarks.store":
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)
            return real(name, *arguments)

        monkeypatch.setattr(builtins, "__import__", without)

    return leave_out


@pytest.mark.parametrize("module", ["fcntl", "resource"])
def test_a_system_that_the_harness_does_not_run_on_is_told(module, without, capsys):
    without(module)
    assert main(["report"]) == 2
    assert capsys.readouterr().err == "error: the harness needs Linux or macOS; on Windows it runs in WSL.\n"


@pytest.mark.parametrize(("module", "extra"), [("pandas", "benchmark"), ("markdown_it", "benchmark"), ("ray", "ray")])
def test_a_package_that_is_missing_is_named_with_what_installs_it(module, extra, without, capsys):
    without(module)
    assert main(["report"]) == 2
    assert capsys.readouterr().err == f"error: {module} is missing, run `pip install -e '.[{extra}]'`\n"
