"""Kill programs that edit a session, at any moment, and look whether anything was lost.

python tests/review/kill_harness.py --kills 200

Each program is forked, so that it starts at once, edits at random, and says after each operation that it has
been promised to be safe; then it is killed (SIGKILL). The next one has to open the session clean, with every
operation that was promised, unaltered, and at most one more.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import _small

from napari_em_seg.review import Session, create_session, fold
from napari_em_seg.review.operations import to_json


def child(work, *arguments):
    """Run a function in a process of its own; return the process, and where it writes its answers."""
    read, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return process, read
    os.close(read)
    code = 1
    try:
        work(write, *arguments)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def edit(answers, path, seed):
    """Edit until killed."""
    rng = np.random.default_rng(seed)
    with Session(path, _small.Exact) as session:
        while True:
            done = _small.random_edit(session, rng)
            if done is not None:
                os.write(answers, f"{done.id}\n".encode())


def make(answers, path, found):
    create_session(path, found)
    os.write(answers, b"made\n")


def check(answers, path, n_before, digest_before):
    """Say how many operations there are, and their digest; fail where something is wrong."""
    with Session(path, _small.Exact) as session:
        operations = session.operations
        assert digest(operations[:n_before]) == digest_before
        assert session.state.done == fold(operations).done
        solved = _small.Exact(session.reconstruction).solve(session.state)
        assert abs(solved.objective - session.outcome.objective) < 1e-6
    os.write(answers, json.dumps([len(operations), digest(operations)]).encode())


def digest(operations):
    text = "\n".join(to_json(operation.as_dict()) for operation in operations)
    return hashlib.sha256(text.encode()).hexdigest()


def finished(process, read):
    """Wait for a process, and return what it answered."""
    with os.fdopen(read) as stream:
        said = stream.read()
    return said, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(process, read, n_promises, seconds):
    """Kill a process some time after it has promised so many things, and return all that it has promised."""
    said = b""
    while said.count(b"\n") < n_promises:
        said += os.read(read, 1000)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return (said.decode() + finished(process, read)[0]).split()


def kill_editors(folder, n_kills, seed):
    """Return what was lost (operations), and how many there were."""
    rng = np.random.default_rng(seed)
    path = folder / "edited.emseg"
    finished(*child(make, path, _small.reconstruction()))
    n, text, extra = 0, digest(()), 0
    for i in range(n_kills):
        n_promises = rng.integers(0, 6)  # none: while it starts and opens the session, as a rule
        seconds = rng.uniform(0, 0.05 if n_promises else 0.2)
        promised = killed(*child(edit, path, seed + i), n_promises, seconds)
        least = int(promised[-1]) if promised else n
        said, code = finished(*child(check, path, n, text))
        if code:
            sys.exit(f"after kill {i} the session is not sound")
        n, text = json.loads(said)
        if not least <= n <= least + 1:
            sys.exit(f"after kill {i}: {least} operations were promised, and there are {n}")
        extra += n - least
    return n, extra


def kill_makers(folder, n_kills, seed):
    """Return how many sessions were there in the end; the others are not there at all."""
    rng = np.random.default_rng(seed)
    found, there = _small.reconstruction(), 0
    start = time.perf_counter()
    finished(*child(make, folder / "whole.emseg", found))
    usual = time.perf_counter() - start
    for i in range(n_kills):
        path = folder / f"made-{i}.emseg"
        promised = killed(*child(make, path, found), 0, rng.uniform(0, 1.5 * usual))
        if path.exists():
            there += 1
            _, code = finished(*child(check, path, 0, digest(())))
            if code:
                sys.exit(f"session {i} is there, but not sound")
        elif promised:
            sys.exit(f"session {i} was promised, and is not there")
    return there


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--makers", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        n, extra = kill_editors(Path(folder), asked.kills, asked.seed)
        there = kill_makers(Path(folder), asked.makers, asked.seed)
        seconds = time.perf_counter() - start
    report = json.dumps({
        "kills": asked.kills, "operations": n, "lost": 0, "kept_though_not_promised": extra,
        "kills_while_making": asked.makers, "made": there, "seconds": round(seconds, 1),
    })  # fmt: skip
    sys.stdout.write(f"{report}\n")


if __name__ == "__main__":
    main()
