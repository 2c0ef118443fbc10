"""A real PostgreSQL server of its own, for the tests that read from one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

USER, PASSWORD = "lab", "s3cret@with/#signs"


@dataclass(frozen=True)
class Server:
    """A server on the loopback interface that asks for a password (SCRAM)."""

    folder: Path
    programs: Path
    port: int

    def url(self, password: str = PASSWORD, database: str = "postgres") -> str:
        """Give its address."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str) -> None:
        """Change what it holds."""
        with psycopg.connect(self.url()) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    def stop(self) -> None:
        """Stop it and remove its folder."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        _run([str(self.programs / program), *arguments], self.folder)


def programs() -> Path | None:
    """Where the newest PostgreSQL's programs are, if it is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def start(folder: Path, programs: Path) -> Server:
    """Start a server whose files are in `folder`, which the user postgres must be able to reach."""
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")  # PostgreSQL refuses to run as root
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(folder, programs, port)
    made = ("-U", USER, "--auth=scram-sha-256", "--pwfile=password", "--no-sync", "-E", "UTF8", "--locale=C")
    server._run("initdb", "-D", "data", *made)
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    server._run("pg_ctl", "-D", "data", "-o", settings, "-l", "log", "-w", "start")
    return server


def _run(command: Sequence[str], folder: Path) -> None:
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # No pipe: the server would keep it open, and the test would wait for its end.
    with (folder.parent / f"{folder.name}.txt").open("w+") as said:
        done = subprocess.run([*as_postgres, *command], cwd=folder, stdout=said, stderr=said, check=False)
        said.seek(0)
        assert done.returncode == 0, said.read()
    Path(said.name).unlink()
