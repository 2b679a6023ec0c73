"""A server of this process's own."""
from __future__ import annotations

import atexit
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

from attnprune.client import Client
from attnprune.errors import Interrupted, InvalidArgument, Unavailable
from attnprune.security import refuse

START_SECONDS = 60.0
STOP_SECONDS = 30.0


def find_program(name: str, given: str | os.PathLike[str] | None = None) -> str:
    """`given`, or else the wheel's own, or else the one on PATH."""
    if given is not None:
        found = shutil.which(str(given))
        if found is None:
            refuse("server" if name == "attnprune-server" else "program",
                   f"must be a program, got {given}")
        return found
    own = pathlib.Path(__file__).parent / "bin" / name
    found = str(own) if os.access(own, os.X_OK) else shutil.which(name)
    if found is None:
        refuse("server" if name == "attnprune-server" else "program",
               f"must be given: {name} is neither in this wheel nor on PATH")
    return found


class Program:
    """One of the two programs, with flags that every call of it has. `given` as for find_program."""

    def __init__(self, name: str, flags: list[str],
                 given: str | os.PathLike[str] | None = None) -> None:
        self._name, self._path, self._flags = name, find_program(name, given), flags

    def run(self, command: str, *arguments: str, notes: bool = True) -> str:
        """What it prints; its notes on standard error, if they are wanted. InvalidArgument with what
        it says where it refuses."""
        done = subprocess.run([self._path, command, *self._flags, *arguments], text=True,
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise InvalidArgument(f"{self._name} {command}: {done.stderr.strip()}")
        if notes and done.stderr.strip():
            print(done.stderr.strip(), file=sys.stderr)
        return done.stdout


class LocalClient(Client):
    """A client of a server that stops with it."""

    def __init__(self, data_dir: str | os.PathLike[str] | None = None,
                 server: str | os.PathLike[str] | None = None, threads: int = 0,
                 flags: tuple[str, ...] = (), **options: Any) -> None:
        program = find_program("attnprune-server", server)
        # In a folder of its own, which goes; jobs are there too unless data_dir is given.
        self._own = tempfile.TemporaryDirectory(prefix="attnprune-")
        folder = pathlib.Path(self._own.name)
        self._keeps = data_dir is not None
        self.data_dir = pathlib.Path(data_dir) if data_dir is not None else folder / "data"
        self._log, port_file = folder / "log", folder / "port"
        with open(self._log, "wb") as log:
            # A session of its own: Ctrl-C is for us, not for it.
            self._process = subprocess.Popen(
                [program, "--listen", "127.0.0.1:0", "--http-listen", "", "--data-dir",
                 str(self.data_dir), "--port-file", str(port_file), "--threads-per-job",
                 str(threads), *flags],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                start_new_session=True)
        atexit.register(self.close)
        try:
            port = self._await_port(port_file)
            super().__init__(f"127.0.0.1:{port}", **options)
        except BaseException:
            self._stop()
            raise

    def _await_port(self, port_file: pathlib.Path) -> int:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise Unavailable(f"attnprune-server has ended: {self.log().strip()}")
            text = port_file.read_text() if port_file.exists() else ""
            if text.endswith("\n") or text.isdigit():
                return int(text)
            time.sleep(0.01)
        raise Unavailable(f"attnprune-server does not listen after {START_SECONDS:g} s: {self.log()}")

    def log(self) -> str:
        """What the server has said."""
        return self._log.read_text(errors="replace")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, Interrupted):
            error.server_stops(keeps=self._keeps)
        self.close()

    def close(self) -> None:
        """Ends the server: running jobs write a checkpoint, with which they go on when a server
        starts on the same data_dir."""
        super().close()
        self._stop()

    def _stop(self) -> None:
        atexit.unregister(self.close)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._own.cleanup()


def local(data_dir: str | os.PathLike[str] | None = None, *,
          server: str | os.PathLike[str] | None = None, threads: int = 0,
          flags: tuple[str, ...] = (), **options: Any) -> LocalClient:
    """Starts attnprune-server on a free port of this machine and gives a client of it.

    data_dir: where jobs are kept; None: a temporary folder, which goes with the client. server: the
    program; None: the wheel's own, or the one on PATH. threads: that solve a job; 0: one a core.
    flags: more of the server's flags. options: of Client. Leave the `with` block, or call close(),
    to stop it.
    """
    return LocalClient(data_dir, server, threads, flags, **options)
