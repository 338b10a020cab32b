"""Drawing a neighbourhood of the graph."""

import io
import shutil
import subprocess

import pytest
from rich.console import Console

from citychain.cli.graph import Neighbourhood, draw, to_dot, to_record
from citychain.types import NodeRef, SealedNode

GENESIS = NodeRef(0, 0, bytes(32))


def node(round: int, *parents: NodeRef) -> SealedNode:
    return SealedNode(
        bytes([round]) * 32, b"a" * 32, round, 0, bytes([round + 100]) * 32, parents, None
    )


@pytest.fixture
def graph() -> Neighbourhood:
    """first <- second <- third, and third on first too."""
    first = node(1, GENESIS)
    second = node(2, first.ref)
    third = node(3, first.ref, second.ref)
    assert second.node_id is not None
    graph = Neighbourhood(second.node_id)
    for each in (first, second, third):
        graph.nodes[each.ref.node_id] = each
    graph.parents[second.node_id] = second.parents
    graph.parents[first.ref.node_id] = first.parents
    graph.children[second.node_id] = (third.ref,)
    return graph


def text_of(graph: Neighbourhood) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(draw(graph))
    return out.getvalue()


def test_the_tree_has_parents_and_children(graph: Neighbourhood) -> None:
    lines = text_of(graph).splitlines()
    assert lines[0].startswith("02" * 32)
    parents, children = (next(i for i, line in enumerate(lines) if title in line)
                         for title in ("stands on", "is stood on by"))  # fmt: skip
    assert "01" * 32 in lines[parents + 1]
    assert "genesis" in lines[parents + 2]
    assert "03" * 32 in lines[children + 1]


def test_the_tree_says_that_children_were_left_out(graph: Neighbourhood) -> None:
    assert "and more" not in text_of(graph)
    graph.cut.add(graph.centre)
    assert "and more" in text_of(graph)


def test_the_record_has_every_edge(graph: Neighbourhood) -> None:
    nodes = {entry["node_id"]: entry for entry in to_record(graph)["nodes"]}  # type: ignore[attr-defined]
    assert len(nodes) == 3
    assert nodes[graph.centre]["parents"] == [(bytes([101]) * 32).hex()]
    assert nodes[graph.centre]["children"] == [(bytes([103]) * 32).hex()]


def test_dot_has_an_edge_from_each_child_to_its_parent(graph: Neighbourhood) -> None:
    text = to_dot(graph)
    edges = [line.strip(' ";') for line in text.splitlines() if "->" in line]
    assert edges == [
        f'{(bytes([child]) * 32).hex()}" -> "{(bytes([parent]) * 32).hex()}'
        for child, parent in ((102, 101), (101, 0), (103, 102))
    ]


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_it(graph: Neighbourhood) -> None:
    subprocess.run(["dot", "-Tsvg"], input=to_dot(graph), text=True, check=True, timeout=60)
