"""The log: one clean line an event, a private file of bounded size."""

import logging
import stat

from p2pshare.daemon import logs
from p2pshare.daemon.logs import clean_line, open_log


def test_what_a_stranger_wrote_stays_one_line_without_control_characters():
    assert clean_line("a\x1b[31mred\x07\nsecond\u202eline") == "a\\x1b[31mred\\x07 | second\\u202eline"
    assert clean_line("caf\udce9") == "caf\\udce9"
    assert len(clean_line("x" * 100_000)) <= logs.MAX_LINE + 3


def test_of_a_long_traceback_the_cause_at_its_end_is_kept():
    line = clean_line("it failed\n" + "frame\n" * 10_000 + "KeyError: the cause")
    assert line.startswith("it failed | frame")
    assert line.endswith("KeyError: the cause")


def test_the_file_is_private_and_has_levels_and_times(tmp_path):
    path = tmp_path / "daemon.log"
    with open_log(str(path), "warning", terminal=False) as log:
        logging.getLogger("p2pshare.x").info("quiet")
        logging.getLogger("p2pshare.x").warning("loud %s", "\x00")
        assert len(log.tail(10)) == 1
    line = path.read_text()
    assert line.endswith("Z WARNING p2pshare.x: loud \\x00\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    logging.getLogger("p2pshare.x").warning("after the end")
    assert "after" not in path.read_text()


def test_it_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MAX_FILE", 2000)
    path = tmp_path / "daemon.log"
    with open_log(str(path), "info", terminal=False):
        for number in range(300):
            logging.getLogger("p2pshare.x").info("line %d", number)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["daemon.log", "daemon.log.1", "daemon.log.2"]
    assert all(file.stat().st_size <= 2000 for file in tmp_path.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert "line 299" in path.read_text()


def test_the_tail_of_a_log_that_is_not_there(tmp_path):
    path = tmp_path / "daemon.log"
    with open_log(str(path), "info", terminal=False) as log:
        path.unlink()
        assert log.tail(5) == []
