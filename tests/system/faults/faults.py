"""A server whose file system fails and whose clock jumps when a test says so (fault_shim.cc)."""
import errno
import mmap
import os
import pathlib
import struct

from harness import Server

WRITE, SYNC, RENAME, OPEN, TRUNCATE, MKDIR = 1, 2, 4, 8, 16, 32
ALL = WRITE | SYNC | RENAME | OPEN | TRUNCATE | MKDIR
KINDS, FIRST, LAST, ERROR, COUNT, FAILED, CLOCK = range(7)
FOR_GOOD = 2**62


class FaultyServer(Server):
    """Faults are those of the data folder, from the start of the process on."""

    def __init__(self, folder, *flags, **options):
        super().__init__(folder, *flags, **options)
        self.control = self.folder.with_suffix(".faults")
        self.control.write_bytes(bytes(4096))
        with open(self.control, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 4096)

    def command(self, port=0, port_file=None):
        shim = os.environ["ATTNPRUNE_FAULT_SHIM"]
        assert pathlib.Path(shim).exists(), shim
        return ["env", f"LD_PRELOAD={shim}", f"FAULTS_CONTROL={self.control}",
                f"FAULTS_FOLDER={self.folder}", *map(str, super().command(port, port_file))]

    def read(self, field):
        return struct.unpack_from("<q", self.memory, 8 * field)[0]

    def write(self, field, value):
        struct.pack_into("<q", self.memory, 8 * field, value)

    def fail(self, first, last=None, kinds=ALL, error=errno.EIO):
        """From here on the first-th to last-th call of these kinds fails; by default that one only."""
        self.write(KINDS, 0)
        for field, value in ((FIRST, first), (LAST, first if last is None else last), (ERROR, error),
                             (COUNT, 0), (FAILED, 0), (KINDS, kinds)):
            self.write(field, value)

    def watch(self):
        """Only counts."""
        self.fail(FOR_GOOD)

    def heal(self):
        """Returns how many calls there were and what failed last, if anything."""
        self.write(KINDS, 0)
        what = self.memory[56:256].split(b"\0")[0].decode() if self.read(FAILED) else None
        return self.read(COUNT), what

    def set_clock(self, seconds):
        """By how much the clock of the day is off."""
        self.write(CLOCK, int(seconds * 1e9))
