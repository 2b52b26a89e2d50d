"""The daemon as real processes: one a home, honest errors, an end in time."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys

import pytest

from tests.support_daemon import ROOT, call, end, running, start


def test_ready_ping_status_and_stop(tmp_path):
    home = tmp_path / "home"
    with running(home) as daemon:
        assert re.fullmatch(r"ready 12D3KooW\w+ /ip4/127\.0\.0\.1/tcp/1\n", daemon.ready)
        pong = call(home, "ping")["result"]
        assert (pong["state"], pong["pid"]) == ("ready", daemon.pid)
        status = call(home, "status")["result"]
        assert status["peer_id"] == pong["peer_id"]
        assert status["uptime"] >= 0
        assert call(home, "config.list")["result"]["log.level"]["value"] == "info"
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        for name in ("control.sock", "identity.key", "daemon.log", "daemon.lock"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        assert call(home, "daemon.stop")["result"] == {}
        assert end(daemon)[0] == 0
    assert not (home / "control.sock").exists()


def test_twenty_started_at_once_leave_one_running(tmp_path):
    processes = [start(tmp_path) for _ in range(20)]
    try:
        first = [process for process in processes if process.stdout.readline().startswith("ready ")]
        assert len(first) == 1
        for process in processes:
            if process is first[0]:
                continue
            code, _, said = end(process)
            assert code == 11
            # The pid is written just after the lock is taken: one that looked in between cannot name it yet.
            assert re.search(rf"as process {first[0].pid}|as another process", said)
        assert call(tmp_path, "ping")["result"]["pid"] == first[0].pid
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def test_a_second_one_names_the_first(tmp_path):
    with running(tmp_path) as daemon:
        code, out, said = end(start(tmp_path))
        assert (code, out) == (11, "")
        assert said.startswith(f"Error: the daemon of this home runs already, as process {daemon.pid}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_gracefully_also_with_a_stream_open(tmp_path, number):
    with running(tmp_path) as daemon, socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/control.sock")
        client.settimeout(20)
        client.sendall(b'{"id":1,"method":"events"}\n')
        assert b'"seq":1' in client.recv(1000)
        daemon.send_signal(number)
        assert end(daemon)[0] == 0
        assert b"cancelled" in client.recv(1000)
    log = (tmp_path / "daemon.log").read_text()
    assert "stopped" in log.splitlines()[-1]
    assert "still running" not in log


def test_what_is_stuck_at_the_end_is_named_and_cancelled(tmp_path):
    with running(tmp_path, "hangs_at_the_end") as daemon:
        daemon.terminate()
        assert end(daemon)[0] == 0
    log = (tmp_path / "daemon.log").read_text()
    assert "waits_for_a_peer_that_never_answers" in log
    assert "closed by force" in log


@pytest.mark.slow
def test_a_blocked_event_loop_cannot_keep_the_process(tmp_path):
    with running(tmp_path, "blocks_at_the_end") as daemon:
        daemon.terminate()
        assert end(daemon)[0] == 1
    assert "blocks_at_the_end" in (tmp_path / "daemon.log").read_text()


def test_the_socket_answers_while_the_node_is_still_imported(tmp_path):
    importing = tmp_path / "importing"
    with running(tmp_path, "never", IMPORTING=str(importing)) as daemon:
        while not (importing.exists() and (tmp_path / "control.sock").exists()):
            assert daemon.poll() is None
        assert call(tmp_path, "ping")["result"]["state"] == "starting"
        status = call(tmp_path, "status")["result"]
        assert (status["state"], status["reachable"], status["peers"]) == ("starting", "unknown", 0)
        daemon.terminate()
        assert end(daemon)[0] == 0


def test_a_killed_daemons_socket_and_lock_do_not_hinder_the_next(tmp_path):
    with running(tmp_path) as daemon:
        first = daemon.ready
        daemon.kill()
        daemon.wait()
    assert (tmp_path / "control.sock").exists()
    with running(tmp_path) as daemon:
        assert daemon.ready == first  # the same peer
        assert call(tmp_path, "ping")["result"]["pid"] == daemon.pid


@pytest.mark.parametrize(
    ("content", "overrides", "says"),
    [
        ("[network]\nlistn = []\n", [], "network.listn"),
        ("", ["log.level=loud"], "log.level"),
    ],
)
def test_a_bad_configuration_ends_it_before_anything_starts(tmp_path, content, overrides, says):
    (tmp_path / "config.toml").write_text(content)
    code, out, said = end(start(tmp_path, "good", *overrides))
    assert (code, out) == (2, "")
    assert said.startswith("Error: ")
    assert says in said
    assert os.listdir(tmp_path) == ["config.toml"]


@pytest.mark.parametrize(
    ("kind", "code", "says"), [("port_in_use", 11, "port 4001 is in use"), ("defective", 1, "by a defect")]
)
def test_a_node_that_cannot_start_is_said_and_logged(tmp_path, kind, code, says):
    got, out, said = end(start(tmp_path, kind))
    assert (got, out) == (code, "")
    assert f"Error: {says}" in said or says in said
    log = (tmp_path / "daemon.log").read_text()
    assert says in log
    assert ("a defect at the start" in log) == (kind == "defective")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_another_users_home_is_refused(tmp_path):
    home = tmp_path / "theirs"
    home.mkdir()
    os.chown(home, 12345, 12345)
    code, _, said = end(start(home))
    assert code == 4
    assert "belongs to another user (uid 12345)" in said
    assert os.listdir(home) == []


def test_a_home_that_others_could_read_is_made_private(tmp_path):
    tmp_path.chmod(0o755)
    with running(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_sighup_reopens_the_log(tmp_path):
    log, moved = tmp_path / "daemon.log", tmp_path / "moved.log"
    with running(tmp_path) as daemon:
        log.rename(moved)
        daemon.send_signal(signal.SIGHUP)
        while not log.exists() or not log.read_text():
            assert daemon.poll() is None
        assert "reopened" in log.read_text()
        assert "reopened" not in moved.read_text()
        assert "reopened" in call(tmp_path, "daemon.log")["result"]["lines"][-1]


def test_the_service_manager_is_told(tmp_path):
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        with running(tmp_path / "home", NOTIFY_SOCKET=str(address)) as daemon:
            assert manager.recv(100) == b"READY=1"
            daemon.terminate()
            assert manager.recv(100) == b"STOPPING=1"


def test_detached_it_lets_go_of_the_terminal_when_ready(tmp_path):
    with running(tmp_path, "detached") as daemon:
        assert daemon.ready == ""  # end of file: nobody holds the pipe any more
        assert call(tmp_path, "ping")["result"]["state"] == "ready"
        assert os.readlink(f"/proc/{daemon.pid}/fd/2") == "/dev/null"


def test_the_module_says_what_it_takes(tmp_path):
    command = [sys.executable, "-m", "p2pshare.daemon", "--home", str(tmp_path / "h"), "--set", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--set: 'nonsense' is not KEY=VALUE" in done.stderr
    assert not (tmp_path / "h").exists()
