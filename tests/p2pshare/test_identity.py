"""The identity file: made once, whole, private; refused when it is not."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from p2pshare.errors import ConfigError, NotFound, PermissionDenied
from p2pshare.identity import load_or_create
from p2pshare_protocols.peerid import ed25519_from_peer_id


def test_the_second_start_is_the_same_peer(tmp_path):
    path = tmp_path / "identity.key"
    first = load_or_create(path)
    second = load_or_create(path)
    assert first.peer_id == second.peer_id
    assert first.peer_id.startswith("12D3KooW")
    assert ed25519_from_peer_id(first.peer_id) == first.public
    assert len(first.seed) == 32
    assert first.seed.hex() not in repr(first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["identity.key"]


def test_two_starts_that_race_get_one_identity(tmp_path):
    path = tmp_path / "identity.key"
    with ThreadPoolExecutor(8) as threads:
        made = {identity.peer_id for identity in threads.map(load_or_create, [path] * 32)}
    assert len(made) == 1
    assert os.listdir(tmp_path) == ["identity.key"]


def test_a_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "identity.key"
    load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(PermissionDenied, match="mode 0640") as caught:
        load_or_create(path)
    assert "chmod 600" in caught.value.hint


def test_a_link_or_a_directory_in_its_place_is_refused(tmp_path):
    path = tmp_path / "identity.key"
    load_or_create(tmp_path / "other.key")
    path.symlink_to(tmp_path / "other.key")
    with pytest.raises(Exception, match="could not open the identity"):
        load_or_create(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(PermissionDenied, match="not a regular file"):
        load_or_create(path)


@pytest.mark.parametrize("content", [b"", b"x" * 10_000, b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "identity.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="does not hold an Ed25519"):
        load_or_create(path)
    assert path.read_bytes() == content


def test_a_key_of_another_sort_is_refused(tmp_path):
    path = tmp_path / "identity.key"
    other = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_or_create(path)


def test_a_home_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(NotFound, match="could not open the identity"):
        load_or_create(tmp_path / "nowhere" / "identity.key")
