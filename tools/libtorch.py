#!/usr/bin/env python3
"""Put libtorch 2.11.0 where the build looks for it.

    python3 tools/libtorch.py            install if needed, print the folder
    python3 tools/libtorch.py --check    only check; exit 1 with one message if it is not usable

The library comes out of the PyPI wheel of PyTorch: it is the one build that both CPU and CUDA machines can share, and
pip finds it through whatever index or mirror this machine is set up with. Only the headers and four libraries are kept,
with two small CUDA libraries that libtorch_cpu asks for at start even where there is no GPU.

A set LIBTORCH or LIBTORCH_USE_PYTORCH wins: then nothing is downloaded. Downloads resume, are checked against the
SHA-256 below, and happen once per user: the files live in $FNGD_CACHE, or ~/.cache/fngd, and target/libtorch links there.
Of several runs at once, one installs and the others wait for it.
"""
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile

VERSION = "2.11.0"
# One wheel for every Python: only its libraries are used, so its Python tag does not matter.
PLATFORM = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--only-binary=:all:",
            "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_25_x86_64",
            "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64",
            "--platform", "any"]
WHEELS = {
    "torch==2.11.0": "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
    "nvidia-cuda-runtime==13.0.96": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    "nvidia-cuda-cupti==13.0.85": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
}
LIBRARIES = {"libc10.so", "libtorch_cpu.so", "libtorch.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}
ROOT = pathlib.Path(__file__).resolve().parent.parent
ATTEMPTS = 5


class Failure(Exception):
    """One sentence for the user: what was tried, what to do."""


class Unreachable(Exception):
    """The network failed, or the other side did; trying again may help."""

    def __init__(self, reason, status=None):
        super().__init__(reason)
        self.status = status


def cache():
    if os.environ.get("FNGD_CACHE"):
        # Absolute, because target/libtorch links there.
        return pathlib.Path(os.environ["FNGD_CACHE"]).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base).resolve() / "fngd"


def missing(folder):
    """The files that a usable libtorch folder must have and this one lacks."""
    wanted = ["include/torch/csrc/api/include/torch/torch.h"] + [f"lib/{name}" for name in sorted(LIBRARIES)]
    return [name for name in wanted if not (folder / name).exists()]


def version_of(folder):
    """What a libtorch folder (`build-version`) or Python's torch folder (`version.py`) says; None where it says nothing."""
    try:
        if (folder / "build-version").is_file():
            return (folder / "build-version").read_text().strip()
        for line in (folder / "version.py").read_text().splitlines():
            if line.startswith("__version__ = "):
                return line.removeprefix("__version__ = ").strip("'\"")
    except FileNotFoundError:
        pass
    return None


def pip(*arguments):
    """Runs pip; an old one (before 23.3 a dry run downloads everything) is replaced by a private newer one."""
    command = [sys.executable, "-m", "pip"]
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    version = subprocess.run(command + ["--version"], capture_output=True, text=True)
    if version.returncode != 0:
        raise Failure(f"{sys.executable} has no pip. Install it (Debian: apt-get install python3-pip) and run `make` again")
    if tuple(map(int, version.stdout.split()[1].split(".")[:2])) < (23, 3):
        private = cache() / "pip"
        if not (private / "pip").exists():
            subprocess.run(command + ["install", "--quiet", "--target", str(private), "pip==25.3"],
                           check=True, env=environment, capture_output=True, text=True)
        environment["PYTHONPATH"] = str(private)
    return subprocess.run(command + list(arguments), check=True, env=environment, capture_output=True, text=True).stdout


def locate(requirement):
    """Where pip would download this wheel from."""
    report = pip("install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--target", str(cache() / "none"),
                 "--report", "-", *PLATFORM, requirement)
    return json.loads(report)["install"][0]["download_info"]["url"]


def digest(path):
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def download(requirement, sha256, folder):
    """The wheel, resumed where an earlier try broke off, and checked."""
    wheel = folder / (requirement.replace("==", "-") + ".whl")
    if wheel.exists() and digest(wheel) == sha256:
        return wheel
    url = locate(requirement)
    part = wheel.with_suffix(".part")
    for attempt in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        try:
            fetch(url, part, have, requirement)
            break
        except Unreachable as error:
            if error.status == 416:  # the part is already whole
                break
            if attempt + 1 == ATTEMPTS:
                raise
            print(f"  {requirement}: {error}; trying again from {part.stat().st_size if part.exists() else 0} bytes",
                  file=sys.stderr)
            time.sleep(2 ** attempt)
    found = digest(part)
    if found != sha256:
        part.unlink()
        raise Failure(f"{requirement}: SHA-256 is {found}, expected {sha256}; the file was thrown away. Run `make` again, "
                      "and if it happens twice ask who runs your package mirror")
    part.rename(wheel)
    return wheel


def fetch(url, part, have, name):
    """Appends the rest of the file to `part`. Only the network's errors are `Unreachable`; those of the disk are not."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with network():
        answer = urllib.request.urlopen(request, timeout=60)
    with answer:
        resumed = have and answer.status == 206
        total = int(answer.headers.get("Content-Length", 0)) + (have if resumed else 0)
        print(f"  {name}: {total / 1e6:.0f} MB" + (f", resumed at {have / 1e6:.0f} MB" if resumed else ""), file=sys.stderr)
        with part.open("ab" if resumed else "wb") as file:
            while True:
                with network():
                    block = answer.read(1 << 20)
                if not block:
                    break
                file.write(block)
    if total and part.stat().st_size < total:
        raise Unreachable(f"the connection closed after {part.stat().st_size} of {total} bytes")


@contextlib.contextmanager
def network():
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(str(error) or type(error).__name__, getattr(error, "code", None)) from error


def unpack(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = pathlib.PurePosixPath(member.filename)
            if path.name in LIBRARIES and path.parent.name == "lib":
                target = folder / "lib" / path.name
            elif path.parts[:2] == ("torch", "include"):
                target = folder.joinpath(*path.parts[1:])
            else:
                continue
            if member.is_dir() or ".." in path.parts:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


@contextlib.contextmanager
def alone(folder):
    """Only one process at a time installs; the kernel frees the lock of one that dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"libtorch {VERSION}: another process installs it, waiting", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(folder):
    print(f"libtorch {VERSION}: installing into {folder}", file=sys.stderr)
    wheels = folder.parent / "download"
    wheels.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{folder.name}-{os.getpid()}")
    for abandoned in folder.parent.glob(f".{folder.name}-*"):  # by a run that was killed; nobody else is here now
        shutil.rmtree(abandoned, ignore_errors=True)
    staging.mkdir()
    try:
        for requirement, sha256 in WHEELS.items():
            unpack(download(requirement, sha256, wheels), staging)
        (staging / "build-version").write_text(VERSION + "\n")
        # The folder appears whole or not at all, so an interrupted install is never taken for a good one.
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(wheels, ignore_errors=True)


def link(folder):
    """target/libtorch, which .cargo/config.toml names, points to the shared folder."""
    target = ROOT / "target" / "libtorch"
    target.parent.mkdir(exist_ok=True)
    if target.is_symlink() or not target.exists():
        if target.is_symlink() and target.resolve() == folder.resolve():
            return
        target.unlink(missing_ok=True)
        target.symlink_to(folder)


def main():
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        return print("libtorch: from the active PyTorch (LIBTORCH_USE_PYTORCH)")
    chosen = os.environ.get("LIBTORCH")
    if chosen:
        if not (pathlib.Path(chosen) / "lib" / "libtorch_cpu.so").exists():
            raise Failure(f"LIBTORCH is {chosen}, but there is no lib/libtorch_cpu.so in it. Correct it, or unset it and "
                          "run `make` again to have libtorch installed")
        version = version_of(pathlib.Path(chosen))
        if version and version.split("+")[0] != VERSION:
            raise Failure(f"LIBTORCH is {chosen}, which has version {version}; {VERSION} is needed. Correct it, or unset it "
                          "and run `make` again to have libtorch installed")
        return print(chosen)
    folder = cache() / "libtorch" / VERSION
    lacking = missing(folder)
    if lacking and "--check" in sys.argv:
        raise Failure(f"libtorch {VERSION} is not installed: looked at LIBTORCH (not set) and {folder} (lacks {lacking[0]}). "
                      "Run: python3 tools/libtorch.py")
    try:
        if lacking:
            with alone(folder):
                if missing(folder):
                    install(folder)
        link(folder)
    except OSError as error:
        raise Failure(f"cannot write {error.filename or folder}: {error.strerror or error}. Make room there or correct its "
                      "permissions, or set FNGD_CACHE to a folder elsewhere, then run `make` again") from error
    print(folder)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"libtorch: {failure}.")
    except (Unreachable, subprocess.CalledProcessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        if any("Retrying (" in line for line in detail):
            # pip's own last word is that it found no such version, because it found nothing at all.
            detail.append(f"pip could not reach its package index ({detail[-1]})")
        sys.exit(f"libtorch {VERSION} is not here and could not be downloaded.\n"
                 f"  looked at   LIBTORCH (not set), LIBTORCH_USE_PYTORCH (not set), {cache() / 'libtorch' / VERSION}\n"
                 f"  tried       pip, for the wheels {', '.join(WHEELS)}\n"
                 f"  it said     {detail[-1] if detail else error}\n"
                 f"  to fix it   connect this machine and run `python3 tools/libtorch.py`, or unpack libtorch {VERSION}\n"
                 f"              elsewhere and run `export LIBTORCH=/path/to/libtorch`")
