#!/usr/bin/env python3
"""Runs the large corpus in a Python that has what it needs; `make corpus` calls this.

    python3 start.py [PYTHON]

Without PYTHON, makes a virtual environment in target/corpus-python and installs requirements.txt, once.
"""
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def python():
    folder = ROOT / "target" / "corpus-python"
    program, stamp = folder / "bin" / "python", folder / "installed"
    requirements = HERE / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([program, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        stamp.write_text(requirements.read_text())
    return program


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else python()
    done = subprocess.run([program, HERE / "run.py", "--case", ROOT / "target" / "debug" / "corpus_case"])
    subprocess.run([sys.executable, ROOT / "tools" / "support_table.py"], check=True)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
