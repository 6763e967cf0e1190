"""A Postgres of its own for a test, where Debian's `postgresql` is installed; its server does not run as root."""

import glob
import os
import pwd
import shutil
import subprocess
import tempfile

from raw import eventually
from servers import free_port


def programs():
    """The directory of the newest server's programs, or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    if found:
        return os.path.dirname(found[-1])
    initdb = shutil.which("initdb")
    return os.path.dirname(os.path.realpath(initdb)) if initdb else None


class Postgres:
    def __init__(self):
        self.programs = programs()
        self.folder = tempfile.mkdtemp(prefix="althing-postgres-")
        self.port = free_port()
        self.user = {}
        if os.geteuid() == 0:
            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                owner = pwd.getpwnam("nobody")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self.user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self.process = None

    def dsn(self, database):
        return f"host=127.0.0.1 port={self.port} user=test dbname={database}"

    def start(self):
        data = f"{self.folder}/data"
        initdb = [f"{self.programs}/initdb", "-D", data, "-U", "test", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self.user)
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "max_prepared_transactions": 100,
            "shared_buffers": "16MB",
            "fsync": "off",
        }
        command = [f"{self.programs}/postgres", "-D", data]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with open(f"{tempfile.gettempdir()}/{os.path.basename(self.folder)}.log", "ab") as log:
            self.log = log.name
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self.user)
        import psycopg2

        def connects():
            assert self.process.poll() is None, open(self.log).read()[-2000:]
            try:
                psycopg2.connect(self.dsn("postgres")).close()
                return True
            except psycopg2.OperationalError:
                return False

        eventually(connects, 60)
        return self

    def create(self, database):
        import psycopg2

        connection = psycopg2.connect(self.dsn("postgres"))
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {database}")
        connection.close()
        return self.dsn(database)

    def end(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            os.unlink(self.log)
        shutil.rmtree(self.folder, ignore_errors=True)
