#!/usr/bin/env python3
"""Runs the large corpus and writes its table.

    python run.py --case PROGRAM [--folder target/corpus] [NAME...]

PROGRAM is the `corpus_case` that Cargo built. Makes the files that are missing (make.py), runs PROGRAM on each and judges
what it wrote (check.py), each file in processes of its own with a time limit. The rows go to docs/support/corpus.json; with
names, only theirs are replaced.
"""
import argparse
import json
import multiprocessing
import pathlib
import shutil
import subprocess
import sys
import time
import traceback

import make  # isort: skip (first, because it says how many threads libraries may use)
import torch

import check
from corpus import CORPUS

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "support" / "corpus.json"
LIMIT_SECONDS = 600


def row(folder, case, name, variant):
    path = folder / f"{name}.{variant}.onnx"
    failure = path.with_suffix(".failure")
    if failure.exists():
        return {"file": f"{name}.{variant}", "source": CORPUS[name].source, "exporter_fails": failure.read_text().strip()}
    work = folder / "work" / f"{name}.{variant}"
    shutil.rmtree(work, ignore_errors=True)
    for part in ("zero", "steps"):
        (work / part).mkdir(parents=True)
    try:
        done = subprocess.run([case, path, path.with_suffix(".safetensors"), work], capture_output=True, text=True,
                              timeout=LIMIT_SECONDS, errors="replace")
        died = None if done.returncode == 0 else f"exit status {done.returncode} ({done.stderr.strip()[-200:]})"
    except subprocess.TimeoutExpired:
        died = f"no end within {LIMIT_SECONDS} s"
    found = check.row(path, work, died)
    shutil.rmtree(work)
    return found


def child(arguments, sender):
    torch.set_num_threads(1)
    try:
        sender.send(row(*arguments))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{pathlib.Path(place.filename).name}:{place.lineno}"
        sender.send(broken(*arguments[2:], f"check: {where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"))


def broken(name, variant, why):
    return {"file": f"{name}.{variant}", "source": CORPUS[name].source, "passes": False, "failures": [why]}


def rows(folder, case, pairs, jobs):
    context = multiprocessing.get_context("fork")
    todo, running, done = list(pairs), {}, {}
    while todo or running:
        while todo and len(running) < jobs:
            pair = todo.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=child, args=((folder, case, *pair), sender))
            process.start()
            running[pair] = (process, receiver, time.monotonic())
        for pair, (process, receiver, start) in list(running.items()):
            seconds = time.monotonic() - start
            if receiver.poll(0.05):
                done[pair] = receiver.recv()
            elif process.is_alive() and seconds < 2 * LIMIT_SECONDS:
                continue
            else:
                process.kill()
                done[pair] = broken(*pair, f"check: ended with {process.exitcode} after {seconds:.0f} s")
            process.join()
            del running[pair]
            found = done[pair]
            verdict = "passes" if found.get("passes") else found.get("exporter_fails") and "exporter fails" or "; ".join(
                found["failures"])
            print(f"{found['file']}: {verdict[:300]} ({seconds:.0f} s)", flush=True)
    return done


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--case", type=pathlib.Path, required=True)
    arguments.add_argument("--folder", type=pathlib.Path, default=ROOT / "target" / "corpus")
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--keep-going", action="store_true", help="do not make files that are missing")
    arguments.add_argument("names", nargs="*", help="NAME or NAME.VARIANT")
    options = arguments.parse_args()
    pairs = [(name, variant) for name, entry in CORPUS.items() for variant in entry.variants]
    wanted = [pair for pair in pairs if not options.names or pair[0] in options.names or ".".join(pair) in options.names]
    start = time.monotonic()
    if not options.keep_going:
        make.all_of(options.folder, wanted, options.jobs)
    wanted = [pair for pair in wanted if make.is_made(options.folder, *pair)]
    done = rows(options.folder, options.case.resolve(), wanted, options.jobs)
    before = {line["file"]: line for line in json.loads(TABLE.read_text())} if TABLE.exists() and options.names else {}
    table = before | {found["file"]: found for found in done.values()}
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    ordered = [table[".".join(pair)] for pair in pairs if ".".join(pair) in table]
    TABLE.write_text("[\n" + ",\n".join(json.dumps(line) for line in ordered) + "\n]\n")
    passing = sum(bool(line.get("passes")) for line in ordered)
    exported = sum("exporter_fails" not in line for line in ordered)
    print(f"{passing} of {exported} files pass, {len(ordered) - exported} could not be exported, "
          f"{time.monotonic() - start:.0f} s")
    sys.exit(passing != exported)


if __name__ == "__main__":
    main()
