"""A PostgreSQL of the test's own: in a temporary folder, on a unix socket alone."""
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

PROGRAMS = "/usr/lib/postgresql/15/bin/"


def as_other_user():
    """The beginning of a command: it refuses to run as root. Where others do not get into the root folder, as in some
    chroots, the user keeps root's right to."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    if os.stat("/").st_mode & 0o001 == 0:
        command += ["--securebits=+no_setuid_fixup", "--inh-caps=+dac_override",
                    "--ambient-caps=+dac_override"]
    return command


def signal_all(processes, number):
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            os.kill(process, number)


class Postgres:
    """Users are let in as whom they say, but for `guarded`, whose password is `opensesame`. fsync: as in earnest, in
    the folder `parent`, which is to be on a disk."""

    def __init__(self, fsync=False, parent="/tmp"):
        self.folder = tempfile.mkdtemp(prefix="attnprune-pg-", dir=parent)
        self.settings = f"-c listen_addresses= -c fsync={'on' if fsync else 'off'} -k {self.folder}"
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.data = f"{self.folder}/data"
        self.url = f"postgresql:///postgres?host={self.folder}&user=attnprune"

    def __enter__(self):
        self.run("initdb", "-U", "attnprune", "-A", "trust", "-E", "UTF8", "--locale=C",
                 "--no-sync")
        with open(f"{self.data}/pg_hba.conf", "w", encoding="ascii") as rules:
            rules.write("local all guarded scram-sha-256\nlocal all all trust\n")
        self.start()
        self.ask("CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'opensesame'")
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder)

    def run(self, program, *arguments):
        subprocess.run([*as_other_user(), PROGRAMS + program, "-D", self.data, *arguments],
                       check=True, cwd="/", stdout=subprocess.DEVNULL)

    def start(self):
        self.run("pg_ctl", "-w", "-l", f"{self.folder}/log", "-o", self.settings, "start")

    def stop(self):
        """As when its processes are killed."""
        self.run("pg_ctl", "-w", "-m", "immediate", "stop")

    @contextlib.contextmanager
    def stopped(self):
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def hanging(self):
        """It takes connections and statements, and answers none."""
        server = int(pathlib.Path(f"{self.data}/postmaster.pid").read_text(encoding="ascii").split()[0])
        children = pathlib.Path(f"/proc/{server}/task/{server}/children").read_text(encoding="ascii").split()
        processes = [server, *map(int, children)]
        signal_all(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_all(processes, signal.SIGCONT)

    def ask(self, sql):
        """The rows as text, a value each."""
        answer = subprocess.run([PROGRAMS + "psql", "-X", "-A", "-t", "-c", sql, self.url],
                                check=True, text=True, capture_output=True)
        return answer.stdout.split()
