"""What a program may expect of a local file system. Run in an empty directory, as root: `python3 -B local.py -v`."""
import fcntl
import mmap
import os
import socket
import stat
import unittest


def as_user(uid, gid, groups, action):
    """Runs `action` in a child as another user; its OSError's number, 0 if there was none."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            action()
        except OSError as error:
            code = error.errno
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def make(path, content=b""):
    with open(path, "wb") as file:
        file.write(content)


class Locks(unittest.TestCase):
    def test_flock_excludes_other_processes(self):
        with open("flock", "w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.assertEqual(as_user(0, 0, [], self.take_flock), 11)
        self.assertEqual(as_user(0, 0, [], self.take_flock), 0)

    def take_flock(self):
        with open("flock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_record_locks_exclude_where_they_overlap(self):
        with open("records", "w") as held:
            fcntl.lockf(held, fcntl.LOCK_EX, 10, 0)
            self.assertEqual(as_user(0, 0, [], lambda: self.take_records(5, 2)), 11)
            self.assertEqual(as_user(0, 0, [], lambda: self.take_records(5, 20)), 0)

    def take_records(self, count, start):
        with open("records", "r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, start)


class Names(unittest.TestCase):
    def test_hard_links_are_one_file(self):
        make("a", b"x")
        os.link("a", "b")
        self.assertEqual(os.stat("a").st_nlink, 2)
        self.assertEqual(os.stat("a").st_ino, os.stat("b").st_ino)
        os.unlink("a")
        with open("b") as file:
            self.assertEqual(file.read(), "x")

    def test_symbolic_links_lead_where_they_say(self):
        make("target", b"x")
        os.symlink("target", "link")
        self.assertEqual(os.readlink("link"), "target")
        with open("link") as file:
            self.assertEqual(file.read(), "x")

    def test_a_fifo_carries_what_is_written(self):
        os.mkfifo("fifo")
        pid = os.fork()
        if pid == 0:
            make("fifo", b"through")
            os._exit(0)
        with open("fifo", "rb") as file:
            self.assertEqual(file.read(), b"through")
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def test_a_socket_is_met_by_its_name(self):
        server = socket.socket(socket.AF_UNIX)
        server.bind("socket")
        server.listen()
        client = socket.socket(socket.AF_UNIX)
        client.connect("socket")
        client.send(b"through")
        self.assertEqual(server.accept()[0].recv(10), b"through")

    def test_device_nodes_are_made(self):
        os.mknod("null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        self.assertTrue(stat.S_ISCHR(os.stat("null").st_mode))

    def test_a_deleted_file_lives_while_it_is_open(self):
        with open("deleted", "w+b") as file:
            os.unlink("deleted")
            file.write(b"still here")
            file.seek(0)
            self.assertEqual(file.read(), b"still here")


class Attributes(unittest.TestCase):
    def test_extended_attributes_are_kept_listed_and_removed(self):
        make("attr")
        value = b"v" * 1000
        os.setxattr("attr", "user.husk", value)
        self.assertEqual(os.getxattr("attr", "user.husk"), value)
        self.assertIn("user.husk", os.listxattr("attr"))
        os.removexattr("attr", "user.husk")
        self.assertNotIn("user.husk", os.listxattr("attr"))

    def test_mode_owner_and_times_are_kept(self):
        make("meta")
        os.chmod("meta", 0o640)
        os.chown("meta", 7, 8)
        os.utime("meta", ns=(1_000_000_007, 2_000_000_009))
        found = os.stat("meta")
        self.assertEqual(stat.S_IMODE(found.st_mode), 0o640)
        self.assertEqual((found.st_uid, found.st_gid), (7, 8))
        self.assertEqual((found.st_atime_ns, found.st_mtime_ns), (1_000_000_007, 2_000_000_009))


class Permissions(unittest.TestCase):
    def test_the_groups_of_a_user_count(self):
        os.mkdir("private", 0o700)
        os.mkdir("group")
        os.chown("group", 0, 5000)
        os.chmod("group", 0o770)
        self.assertEqual(as_user(1000, 1000, [], lambda: make("private/x")), 13)
        self.assertEqual(as_user(1000, 1000, [], lambda: make("group/x")), 13)
        self.assertEqual(as_user(1000, 5000, [], lambda: make("group/primary")), 0)
        self.assertEqual(as_user(1000, 1000, [5000], lambda: make("group/supplementary")), 0)
        found = os.stat("group/primary")
        self.assertEqual((found.st_uid, found.st_gid), (1000, 5000))

    def test_a_write_by_a_user_drops_set_user_id(self):
        make("suid", b"x")
        os.chmod("suid", 0o6777)
        self.assertEqual(as_user(1000, 1000, [], lambda: self.overwrite("suid")), 0)
        self.assertEqual(os.stat("suid").st_mode & 0o6000, 0)

    def test_truncation_by_a_user_drops_set_user_id(self):
        make("truncated", b"xx")
        os.chmod("truncated", 0o6777)
        self.assertEqual(as_user(1000, 1000, [], lambda: os.truncate("truncated", 1)), 0)
        self.assertEqual(os.stat("truncated").st_mode & 0o6000, 0)

    def overwrite(self, path):
        file = os.open(path, os.O_WRONLY)
        os.write(file, b"y")


class Data(unittest.TestCase):
    def test_what_is_written_through_a_mapping_is_in_the_file(self):
        pattern = bytes(i % 251 for i in range(1 << 20))
        with open("mapped", "w+b") as file:
            file.truncate(len(pattern))
            with mmap.mmap(file.fileno(), 0) as mapping:
                mapping[:] = pattern
                mapping.flush()
        with open("mapped", "rb") as file:
            self.assertEqual(file.read(), pattern)

    def test_data_is_synced_and_the_file_system_has_a_size(self):
        with open("synced", "wb") as file:
            file.write(b"x")
            file.flush()
            os.fdatasync(file.fileno())
            os.fsync(file.fileno())
            self.assertGreater(os.fstatvfs(file.fileno()).f_blocks, 0)
        os.sync()

    def test_holes_are_found_and_made(self):
        with open("sparse", "w+b") as file:
            os.pwrite(file.fileno(), b"end", 1 << 20)
            # A guest that gathers writes asks the host, which has not got them yet (docs/virtio-fs.md).
            os.fsync(file.fileno())
            self.assertGreater(os.lseek(file.fileno(), 0, os.SEEK_DATA), 0)
            os.posix_fallocate(file.fileno(), 0, 4096)
            self.assertEqual(os.pread(file.fileno(), 3, 1 << 20), b"end")

    def test_appending_writers_do_not_overwrite_each_other(self):
        make("log")
        pids = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                file = os.open("log", os.O_WRONLY | os.O_APPEND)
                for _ in range(50):
                    os.write(file, b"0123456789abcde\n")
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        with open("log", "rb") as file:
            self.assertEqual(file.read(), b"0123456789abcde\n" * 200)

    def test_flags_of_an_open_file_change(self):
        make("flags", b"begin")
        file = os.open("flags", os.O_RDWR)
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
        os.write(file, b"+")
        fcntl.fcntl(file, fcntl.F_SETFL, 0)
        os.pwrite(file, b"B", 0)
        self.assertEqual(os.pread(file, 10, 0), b"Begin+")


if __name__ == "__main__":
    unittest.main()
