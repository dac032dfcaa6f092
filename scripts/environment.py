"""What `make environment` is about to download: environment.py --check | LOCK [PIP OPTION…]

With --check it only refuses what cannot work; any Python 3 can read this file. With a lock it is
run by the new environment's own Python before anything is installed there, names what has not been
tried, and asks pip which build of PyTorch it is going to take.
"""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
#: Gigabytes to download and on disk, measured for requirements.lock on Linux x86-64: a CPU build of
#: PyTorch, and what comes with a CUDA build on top (NVIDIA's libraries).
CPU, CUDA = (0.7, 2.5), (3, 6)
#: Older ones download a file to know what it needs.
PIP = (23, 2)
LIBRARIES = ("nvidia-", "cuda-", "triton")

HERE = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def check() -> int:
    """Refuse a Python or a system that cannot work: 2, else 0."""
    if sys.version_info[:2] < OLDEST:
        print(f"error: {HERE} is older than Python {OLDEST[0]}.{OLDEST[1]}")
        print("  next: name another: make PYTHON=python3.12 …")
        return 2
    if sys.platform == "win32":
        print("error: Windows has no file locks and signals as voxseq needs them")
        print("  next: use WSL 2 (`wsl --install`), and this command there")
        return 2
    return 0


def announce(lock: Path, options: list) -> int:
    """Print what is to come."""
    pinned = pins(lock)
    print(f"{HERE}: {len(pinned)} libraries of {lock.name}")
    if sys.version_info[:2] > NEWEST:
        print(f"note: nothing was tried with a Python newer than {NEWEST[0]}.{NEWEST[1]}")
    print(said_of_torch(torch_build(pinned["torch"], options)), flush=True)
    return 0


def pins(lock: Path) -> dict:
    """Version of each library in a lock."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([\w.-]+)==([\w.+!-]+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def torch_build(version: str, options: list) -> "dict | None":
    """What pip would install for PyTorch, as its report has it; None where it does not tell."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    try:
        said = subprocess.run([*pip, "--version"], capture_output=True, text=True, check=True)
        if tuple(map(int, said.stdout.split()[1].split(".")[:2])) < PIP:
            return None
        asked = ["install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"]
        report = subprocess.run(
            [*pip, *asked, "--report", "-", *options, f"torch=={version}"],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(report.stdout)["install"][0]
    except (OSError, subprocess.SubprocessError, ValueError, LookupError):
        # pip names the trouble itself, when it installs.
        return None


def said_of_torch(build: "dict | None") -> str:
    """Sizes, and how to have the other build."""
    smaller = (
        "  for the CPU build, which is all that a machine without an NVIDIA GPU can use: "
        "Ctrl-C, then make environment TORCH=cpu"
    )
    if build is None:
        return (
            f"to download: {CPU[0]} GB with a CPU build of PyTorch, {CPU[0] + CUDA[0]:g} GB with "
            f"a CUDA build; pip does not say beforehand which one it takes\n{smaller}"
        )
    version, needs = build["metadata"]["version"], build["metadata"].get("requires_dist", [])
    is_cuda = sys.platform == "linux" and any(need.startswith(LIBRARIES) for need in needs)
    download, disk = (CPU[n] + is_cuda * CUDA[n] for n in (0, 1))
    place = build["download_info"]["url"].rsplit("/", 1)[0]
    words = "a CUDA build, some 3 GB with its libraries" if is_cuda else "a CPU build"
    if sys.platform == "darwin":
        words = "the build for macOS"
    text = (
        f"PyTorch {version}: {words}, from {place}\n"
        f"to download: about {download:g} GB; on disk: about {disk:g} GB"
    )
    return f"{text}\n{smaller}" if is_cuda else text


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(check() if words == ["--check"] else announce(Path(words[0]), words[1:]))
