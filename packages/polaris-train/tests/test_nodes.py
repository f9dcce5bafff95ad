"""How the nodes of a run find each other and learn what to do; a run on two of them is in tests/test_run.py."""

import json
import os
import socket
import threading

import pytest
from polaris_train.controller import nodes as module
from polaris_train.controller.nodes import Leader, Nodes, follow, read_nodes
from polaris_train.errors import NodesError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Variables that a test sets are gone after it."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_one_node_needs_no_variables():
    assert read_nodes() is None
    os.environ |= {"PET_NNODES": "1", "PET_RDZV_ENDPOINT": "nowhere"}
    assert read_nodes() is None


def test_a_node_knows_its_place():
    os.environ |= {"PET_NNODES": "4", "PET_NODE_RANK": "3", "PET_RDZV_ENDPOINT": "node-1:29400"}
    assert read_nodes() == Nodes(4, 3, "node-1", 29400)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PET_NNODES": "2"}, "PET_RDZV_ENDPOINT is ''; set it on every node to HOST:PORT of the first"),
        ({"PET_NNODES": "2", "PET_RDZV_ENDPOINT": "node-1"}, "PET_RDZV_ENDPOINT is 'node-1'"),
        ({"PET_NNODES": "1:4"}, "PET_NNODES is '1:4'; give a number"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "2", "PET_RDZV_ENDPOINT": "a:1"}, "PET_NODE_RANK is 2 of 2 nodes"),
    ],
)
def test_a_wrong_variable_is_one_sentence(variables, message):
    os.environ |= variables
    with pytest.raises(NodesError, match=message):
        read_nodes()


def heard(port):
    """What a node hears that comes now."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    return connection.makefile("r")


def test_every_node_hears_which_stage_begins_also_one_that_comes_late(port, tmp_path):
    with Leader(Nodes(3, 0, "127.0.0.1", port)) as leader:
        early = heard(port)
        with leader.training(tmp_path / "stage-1"):
            first = json.loads(early.readline())
            assert first["stage"] == str(tmp_path / "stage-1")
            assert first["environment"].items() <= os.environ.items()  # They meet where this node's ranks do.
        between = heard(port)
        while len(leader._followers) < 2:
            pass
        with leader.training(tmp_path / "stage-2"):
            late = heard(port)
            second = [json.loads(news.readline()) for news in (early, between, late)]
            assert second == [second[0]] * 3 and second[0]["stage"] == str(tmp_path / "stage-2")
        leader.exit_code = 3
    assert [json.loads(news.readline()) for news in (early, between, late)] == [{"exit_code": 3}] * 3


def test_a_node_waits_for_the_first_and_ends_with_its_exit_code(port, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    codes = []
    waiting = threading.Thread(target=lambda: codes.append(follow(Nodes(2, 1, "127.0.0.1", port))))
    waiting.start()
    leader = Leader(Nodes(2, 0, "127.0.0.1", port))
    while not leader._followers:
        pass
    with leader:
        leader.exit_code = 75
    waiting.join(timeout=20)
    assert codes == [75]


def test_a_node_whose_first_node_is_never_there_says_so(port, monkeypatch):
    monkeypatch.setattr(module, "MEETING_TIMEOUT_S", 0.0)
    with pytest.raises(
        NodesError, match=rf"the first node was not met at 127.0.0.1:{port} within 0 s .*PET_NODE_RANK=0"
    ):
        follow(Nodes(2, 1, "127.0.0.1", port))


def told(server, text):
    """Be a first node that says this and goes."""
    connection, _ = server.accept()
    connection.sendall(text.encode())
    connection.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first node, 127.0.0.1, has gone; see what it printed"),
        (
            '{"stage": "/nowhere/stage-1", "environment": {}}\n',
            "/nowhere/stage-1 is not there on this node; give --out",
        ),
    ],
)
def test_a_node_that_cannot_go_on_says_why(text, message):
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = threading.Thread(target=told, args=(server, text))
        first.start()
        with pytest.raises(NodesError, match=message):
            follow(Nodes(2, 1, *server.getsockname()))
        first.join()


def test_a_node_that_cannot_be_met_where_it_should_says_so(port):
    with pytest.raises(NodesError, match=r"the other nodes cannot be met at 192\.0\.2\.1"):
        Leader(Nodes(2, 0, "192.0.2.1", port))
