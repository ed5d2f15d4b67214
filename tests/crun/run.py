"""Runs crun's own tests with a runtime, each case by itself and with a limit of time.

usage: run.py SUITE RUNTIME [FILE/CASE...]

SUITE is a directory with crun's tests and their compiled init. Prints a line per case: FILE/CASE OUTCOME, the outcome being
ok, skip, FAILED or SLOW. What a case that did not pass wrote follows, indented.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile

LIMIT = 60


def cases(suite):
    sys.path[:0] = [suite, os.path.dirname(os.path.abspath(__file__))]
    for name in sorted(os.listdir(suite)):
        if name.startswith("test_") and name.endswith(".py"):
            for case in importlib.import_module(name[:-3]).all_tests:
                yield name[5:-3], case


def outcome(output):
    for line in output.splitlines():
        if line.startswith("not ok "):
            return "FAILED"
        if line.startswith("ok "):
            return "skip" if line.endswith("#SKIP") else "ok"
    return "FAILED"


def run(suite, file, case, environment, place):
    test = [sys.executable, os.path.join(suite, "test_%s.py" % file)]
    environment = dict(environment, RUN_TESTS=case)
    process = subprocess.Popen(
        test, cwd=place, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output = process.communicate(timeout=LIMIT)[0].decode(errors="replace")
        return outcome(output), output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return "SLOW", ""


def main(suite, runtime, wanted):
    here = os.path.dirname(os.path.abspath(__file__))
    # Not in a file system of memory: it may not have every extended attribute.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.mkdir(os.path.join(place, "tests"))
        init = shutil.copy2(os.path.join(suite, "init"), os.path.join(place, "tests"))
        adapter = shutil.copy2(os.path.join(here, "adapter.sh"), os.path.join(place, "adapter-" + runtime))
        environment = dict(
            os.environ, PYTHONPATH=here, PYTHONDONTWRITEBYTECODE="1", INIT=init,
            OCI_RUNTIME=shutil.which(runtime) if runtime == "crun" else adapter)
        for file, case in cases(suite):
            if wanted and "%s/%s" % (file, case) not in wanted:
                continue
            result, output = run(suite, file, case, environment, place)
            print("%s/%s %s" % (file, case, result), flush=True)
            if result in ("FAILED", "SLOW"):
                print("\n".join("    " + line for line in output.splitlines()), flush=True)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main(sys.argv[1], sys.argv[2], set(sys.argv[3:]))
