#!/usr/bin/env python3
"""What each fragment of config/ costs: the table of README.md.

    costs.py TREE [INITCALL_LOG]

TREE is the kernel's source tree in which build.sh has built (`cargo xtask kernel --keep-tree`). INITCALL_LOG is the
kernel log of one boot with `initcall_debug` under instruction counting, where a microsecond is 1000 instructions.

For each fragment the configuration is made again without it, and kbuild's makefiles are asked which objects the two
configurations compile. Those that only the whole one has are the fragment's:
  size    the text, data and bss of these objects (`size`); what the fragment adds to other objects is not seen
  build   processor seconds: SAMPLE of these objects are compiled again by the command that kbuild saved, the mean is
          multiplied by their number
  boot    the time between the log's lines `calling` and `initcall ... returned` of the functions these objects define
An object that disappears without either of two fragments is the smaller one's, the more special: virtio-net needs both
`net` and `virtio`. The line "shared" has the objects that stay without any one fragment: tinyconfig's own, and those
that two fragments bring independently.
"""

import os
import random
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE = 10
CONFIG = Path(__file__).resolve().parent / "config"

# Prints what one directory contributes to the kernel: its objects, subdirectories and the parts of composite objects.
DUMP = """
include $(config)
srctree := .
src := $(dir)
obj := $(dir)
SRCARCH := x86
BITS := 64
include $(firstword $(wildcard $(dir)/Kbuild) $(dir)/Makefile)
real = $(foreach o,$(1),$(if $(strip $($(o:.o=-y)) $($(o:.o=-objs))),\
$(call real,$($(o:.o=-y)) $($(o:.o=-objs))),$(o)))
$(info OBJECTS $(call real,$(obj-y) $(lib-y)))
__nothing: ;
"""
TOP = ["init", "usr", "arch/x86", "kernel", "certs", "mm", "fs", "ipc", "security", "crypto", "io_uring", "block",
       "drivers", "sound", "net", "virt", "lib", "arch/x86/lib", "arch/x86/pci", "arch/x86/power", "arch/x86/video"]


def fragments():
    return sorted(CONFIG.glob("*.config"))


def configure(tree, without, out):
    """Makes the configuration of all fragments but one, in the file `out`."""
    env = os.environ | {"KCONFIG_CONFIG": str(out)}
    make = ["make", "-s", "-C", str(tree)]
    subprocess.run(make + ["tinyconfig"], env=env, check=True, capture_output=True)
    with open(out, "a") as file:
        for fragment in fragments():
            if fragment != without:
                file.write(fragment.read_text())
    subprocess.run(make + ["olddefconfig"], env=env, check=True, capture_output=True)


def options(config):
    """The options of a configuration that are set, with their values."""
    return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", Path(config).read_text(), re.MULTILINE))


class Kbuild:
    """Asks the makefiles of the tree what a configuration compiles, and remembers the answers for the whole one."""

    def __init__(self, tree, config):
        self.tree, self.config = Path(tree), config
        self.whole, self.answers = options(config), {}

    def ask(self, directory, config):
        """Objects and subdirectories that the makefile of one directory gives."""
        with tempfile.NamedTemporaryFile("w", suffix=".mk") as makefile:
            makefile.write(DUMP)
            makefile.flush()
            command = ["make", "-s", "-f", makefile.name, f"config={config}", f"dir={directory}", "__nothing"]
            run = subprocess.run(command, cwd=self.tree, capture_output=True, text=True)
        names = [name for line in run.stdout.splitlines() if line.startswith("OBJECTS") for name in line.split()[1:]]
        paths = {os.path.normpath(os.path.join(directory, name)) for name in names if not name.endswith("/")}
        below = {os.path.normpath(os.path.join(directory, name)) for name in names if name.endswith("/")}
        return {path for path in paths if (self.tree / path).exists()}, below

    def answer(self, directory, config, changed):
        """The same, without asking again where no changed option is mentioned."""
        if directory not in self.answers:
            text = "".join(path.read_text() for name in ("Kbuild", "Makefile")
                           if (path := self.tree / directory / name).exists())
            self.answers[directory] = self.ask(directory, self.config), set(re.findall(r"CONFIG_\w+", text))
        answer, mentioned = self.answers[directory]
        return self.ask(directory, config) if mentioned & changed else answer

    def objects(self, config):
        """The objects that a configuration compiles, as paths in the tree."""
        given = options(config)
        changed = {name for name in given.keys() | self.whole.keys() if given.get(name) != self.whole.get(name)}
        found, todo, seen = set(), list(TOP), set()
        while todo:
            directory = todo.pop()
            if directory not in seen:
                seen.add(directory)
                objects, below = self.answer(directory, config, changed)
                found |= objects
                todo += below
        return found


def size(tree, paths):
    """Sum of text, data and bss."""
    if not paths:
        return 0
    run = subprocess.run(["size", *sorted(paths)], cwd=tree, capture_output=True, text=True, check=True)
    return sum(int(line.split()[3]) for line in run.stdout.splitlines()[1:])


def build_seconds(tree, paths):
    """Processor time of compiling these objects, from a sample."""
    commands = []
    for path in random.Random(1).sample(sorted(paths), min(SAMPLE, len(paths))):
        saved = Path(tree) / os.path.dirname(path) / f".{os.path.basename(path)}.cmd"
        command = saved.read_text().splitlines()[0].split(":=", 1)[1] if saved.exists() else ""
        # Only the compiler: what follows it in the saved line checks or rewrites the object.
        command = command.split(" ; ")[0]
        commands.append(re.sub(r" -o \S+", " -o /dev/null", re.sub(r"-Wp,-MMD,\S+", "", command)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        subprocess.run(command, cwd=tree, shell=True, check=False, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used / max(len(commands), 1) * len(paths)


def initcalls(log):
    """Microseconds by name of initcall: by the stamps of the log's lines, because the times that the kernel prints are
    multiples of its tick until the clock source has been chosen."""
    times, began = {}, {}
    for stamp, kind, name in re.findall(r"\[\s*([\d.]+)\] (calling|initcall)\s+(\w+)", Path(log).read_text(errors="replace")):
        if kind == "calling":
            began[name] = float(stamp)
        elif name in began:
            times[name] = times.get(name, 0) + (float(stamp) - began.pop(name)) * 1e6
    return times


def functions(tree, paths):
    """Names of the functions that these objects define."""
    if not paths:
        return set()
    run = subprocess.run(["nm", *sorted(paths)], cwd=tree, capture_output=True, text=True)
    return {line.split()[2] for line in run.stdout.splitlines() if re.match(r"[0-9a-f]+ [tT] ", line)}


def row(tree, name, paths, times):
    boot = sum(times.get(function, 0) for function in functions(tree, paths)) / 1000
    kib, seconds = size(tree, paths) / 1024, build_seconds(tree, paths)
    print(f"| {name} | {len(paths)} | {kib:,.0f} | {seconds:.0f} | {boot:.2f} |", flush=True)


def main():
    tree = Path(sys.argv[1]).resolve()
    times = initcalls(sys.argv[2]) if len(sys.argv) > 2 else {}
    with tempfile.TemporaryDirectory() as scratch:
        whole_config = Path(scratch) / "whole"
        configure(tree, None, whole_config)
        kbuild = Kbuild(tree, whole_config)
        whole = kbuild.objects(whole_config)
        lost = {}
        for fragment in fragments():
            config = Path(scratch) / fragment.name
            configure(tree, fragment, config)
            lost[fragment.stem] = whole - kbuild.objects(config)
        own, rest = {}, set(whole)
        for name in sorted(lost, key=lambda name: len(lost[name])):
            own[name] = lost[name] & rest
            rest -= own[name]
        print("| fragment | objects | KiB | build, s | boot, M instructions |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for name in sorted(own):
            row(tree, name, own[name], times)
        row(tree, "shared", rest, times)


if __name__ == "__main__":
    main()
