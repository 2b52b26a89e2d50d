"""The registry: it checks parameters, describes itself, and `api.Node` has exactly its methods."""

import inspect

import pytest

from p2pshare.control import api
from p2pshare.control.methods import METHODS
from p2pshare.control.registry import InvalidParams, Method, Param
from p2pshare_protocols.errors import KINDS


def node_methods():
    return {name for name, _ in inspect.getmembers(api.Node, inspect.isfunction) if not name.startswith("_")}


def test_the_node_has_the_methods_of_the_registry_and_no_others():
    wanted = {method.attribute for method in METHODS.values() if method.runs == "node"} | {"status"}
    assert node_methods() == wanted


@pytest.mark.parametrize("method", [m for m in METHODS.values() if m.runs == "node"], ids=lambda m: m.name)
def test_the_node_takes_the_parameters_of_the_registry(method):
    signature = inspect.signature(getattr(api.Node, method.attribute))
    names = [name for name in signature.parameters if name != "self"]
    assert ("emit" in names) == method.is_stream
    assert [name for name in names if name != "emit"] == [param.name for param in method.params]


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
def test_every_method_is_fully_described(method):
    assert method.doc.endswith(".")
    assert set(method.errors) <= set(KINDS)
    assert set(method.read(method.example)) == set(method.by_name)
    described = method.describe()
    assert described["params"]["additionalProperties"] is False
    for param in method.params:
        assert param.doc.endswith(".")
        assert param.takes


TRY = Method(
    "try",
    "Try.",
    "nothing",
    {"text": "x"},
    (
        Param("text", "text", "A text."),
        Param("path", "path", "A path.", None),
        Param("texts", "texts", "Texts.", ()),
        Param("integer", "integer", "A number.", 5, low=1, high=9),
        Param("number", "number", "A number.", None, low=0.5),
        Param("boolean", "boolean", "A flag.", False),
        Param("choice", "text", "A choice.", "a", choices=("a", "b")),
    ),
)


def test_defaults_are_filled_in():
    assert TRY.read({"text": "x", "choice": None}) == {
        "text": "x",
        "path": None,
        "texts": [],
        "integer": 5,
        "number": None,
        "boolean": False,
        "choice": "a",
    }


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "try needs text"),
        ({"text": None}, "text must be a text"),
        ({"text": 1}, "text must be a text"),
        ({"text": "x" * 8193}, "text must be a text of at most 8192"),
        ({"text": "a\0b"}, "text must be"),
        ({"text": "x", "nope": 1}, "try has no parameter 'nope'; it takes text, path"),
        ({"text": "x", "path": "relative"}, "path must be an absolute path"),
        ({"text": "x", "texts": "x"}, "texts must be a list"),
        ({"text": "x", "texts": [1]}, "texts must be a list"),
        ({"text": "x", "texts": ["x"] * 1025}, "texts must be a list"),
        ({"text": "x", "integer": 0}, "integer must be a whole number from 1 to 9"),
        ({"text": "x", "integer": 1.5}, "integer must be"),
        ({"text": "x", "integer": True}, "integer must be"),
        ({"text": "x", "number": 0.1}, "number must be a number of at least 0.5"),
        ({"text": "x", "number": float("nan")}, "number must be"),
        ({"text": "x", "boolean": 1}, "boolean must be true or false"),
        ({"text": "x", "choice": "c"}, "choice must be one of: a, b"),
    ],
)
def test_a_wrong_parameter_is_named(params, says):
    with pytest.raises(InvalidParams) as caught:
        TRY.read(params)
    assert says in str(caught.value)


def test_a_default_list_is_nobody_elses():
    first = TRY.read({"text": "x"})["texts"]
    first.append("mine")
    assert TRY.read({"text": "x"})["texts"] == []
