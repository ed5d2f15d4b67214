"""As much of util-linux's Python module of this name as crun's tests use: a mount table read from a file."""


class Mount:
    def __init__(self, line):
        fields = line.rstrip("\n").split(" ")
        self.target = fields[4]
        self.vfs_options = fields[5]
        self.fs_options = fields[fields.index("-") + 3]


class Table:
    def __init__(self, path):
        with open(path) as file:
            self.mounts = [Mount(line) for line in file if " - " in line]

    def find_target(self, target):
        found = [mount for mount in self.mounts if mount.target == target]
        if not found:
            raise Exception("nothing is mounted on " + target)
        return found[-1]
