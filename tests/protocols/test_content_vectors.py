"""What Kubo made must come out bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from p2pshare_protocols import builder
from p2pshare_protocols.builder import V0_2015, V1_2025
from p2pshare_protocols.cid import CID
from p2pshare_protocols.unixfs import decode_node
from tests.support_content import VECTORS, Blocks, build_recipe, keystream, read_car, vectors

ALL = vectors()
IN_MEMORY = [name for name in ALL if name != "ks-1025MiB"]


def build(vector: dict[str, Any], profile: builder.Profile) -> tuple[builder.Built, Blocks]:
    recipe = dict(vector["recipe"])
    args = vector["args"]
    if "--raw-leaves=false" in args:
        profile = replace(profile, raw_leaves=False)
    if "--preserve-mtime" not in args:
        recipe.pop("mtime", None)
    blocks: Blocks = {}
    root = build_recipe(recipe, profile, blocks, hidden="--hidden" in args or "-H" in args)
    return root, blocks


@pytest.mark.parametrize("name", IN_MEMORY)
def test_the_default_profile_gives_kubos_cid(name: str) -> None:
    vector = ALL[name]
    root, blocks = build(vector, V1_2025)
    assert str(root.cid) == vector["cid"]
    if "root_block_hex" in vector:
        assert blocks[root.cid].hex() == vector["root_block_hex"]
    if "root_block_sha256" in vector:
        assert hashlib.sha256(blocks[root.cid]).hexdigest() == vector["root_block_sha256"]
    if "blocks" in vector:
        assert sorted(map(str, blocks)) == sorted(vector["blocks"])
    if "unique_blocks" in vector:
        assert len(blocks) == vector["unique_blocks"]
    for cid, block in blocks.items():
        assert cid.matches(block)
        decode_node(cid, block)


@pytest.mark.parametrize("name", IN_MEMORY)
def test_the_profile_of_2015_gives_kubos_cid(name: str) -> None:
    root, _ = build(ALL[name], V0_2015)
    assert str(root.cid) == ALL[name]["cid_unixfs_v0_2015"]


def test_a_file_of_more_than_1024_chunks() -> None:
    vector = ALL["ks-1025MiB"]
    new, old = builder.FileBuilder(V1_2025), builder.FileBuilder(V0_2015)
    for chunk in keystream(vector["size"]):
        new.add_chunk(chunk)
        for at in range(0, len(chunk), V0_2015.chunk_size):
            old.add_chunk(chunk[at : at + V0_2015.chunk_size])
    assert str(new.finish()[0].cid) == vector["cid"]
    assert str(old.finish()[0].cid) == vector["cid_unixfs_v0_2015"]


@pytest.mark.parametrize("name", [name for name, vector in ALL.items() if (VECTORS / f"{name}.car").exists()])
def test_kubos_exports_hold_the_blocks_we_build(name: str) -> None:
    root, exported = read_car(VECTORS / f"{name}.car")
    built, blocks = build(ALL[name], V1_2025)
    assert root == built.cid
    assert dict(exported) == blocks


def test_a_vector_would_fail_on_one_wrong_byte() -> None:
    vector = dict(ALL["hello"], recipe={"text": "hello world!"})
    assert str(build(vector, V1_2025)[0].cid) != vector["cid"]
    assert CID.parse(vector["cid"]) == build(ALL["hello"], V1_2025)[0].cid
