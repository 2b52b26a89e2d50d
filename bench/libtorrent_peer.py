"""libtorrent 2.1.1 as a peer to measure against; runs in an environment of its own.

publish PATH TORRENT              hash into a .torrent; prints {"seconds"}
seed PATH TORRENT                 seed until standard input closes; prints {"port"}
fetch TORRENT DIRECTORY PORT      download to the end; prints {"seconds", "cpu"}
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

import libtorrent as lt


def session(port: int) -> lt.session:
    """Best case for a loopback transfer: no discovery, no uTP, no rate limits, plaintext, large buffers."""
    settings = lt.high_performance_seed()
    settings.update(
        {
            "listen_interfaces": f"127.0.0.1:{port}",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_incoming_utp": False,
            "enable_outgoing_utp": False,
            "out_enc_policy": 2,
            "in_enc_policy": 2,
            "allow_multiple_connections_per_ip": True,
            "hashing_threads": 2,
            "aio_threads": 4,
            "alert_mask": 0,
            "close_redundant_connections": False,
        }
    )
    return lt.session(settings)


def publish(path: str, torrent: str) -> None:
    begun = time.perf_counter()
    files = lt.list_files(path)
    made = lt.create_torrent(files, 1 << 20, lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, os.path.dirname(path))
    with open(torrent, "wb") as sink:
        sink.write(lt.bencode(made.generate()))
    print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


def seed(path: str, torrent: str) -> None:
    node = session(0)
    params = lt.load_torrent_file(torrent)
    params.save_path = os.path.dirname(path)
    params.flags |= lt.torrent_flags.seed_mode
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = node.add_torrent(params)
    while not handle.status().is_seeding or not node.listen_port():
        time.sleep(0.01)
    print(json.dumps({"port": node.listen_port()}), flush=True)
    sys.stdin.read()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": usage.ru_utime + usage.ru_stime}), flush=True)


def fetch(torrent: str, directory: str, port: int) -> None:
    node = session(0)
    before = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.perf_counter()
    params = lt.load_torrent_file(torrent)
    params.save_path = directory
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = node.add_torrent(params)
    handle.connect_peer(("127.0.0.1", port))
    while not handle.status().is_finished:
        time.sleep(0.002)
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu}), flush=True)


def main(words: list[str]) -> None:
    if words[0] == "publish":
        publish(words[1], words[2])
    elif words[0] == "seed":
        seed(words[1], words[2])
    else:
        fetch(words[1], words[2], int(words[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
