"""A neighbourhood of the graph: a tree in the terminal, or DOT for Graphviz."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from citychain.types import NodeRef, SealedNode

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = ["Neighbourhood", "draw", "to_dot", "to_record"]


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """A node, with the nodes that it stands on and those that stand on it."""

    centre: bytes
    """Its node id."""
    nodes: dict[bytes, SealedNode] = field(default_factory=dict)
    """Those that were looked up, by node id."""
    parents: dict[bytes, tuple[NodeRef, ...]] = field(default_factory=dict)
    """By node id, for nodes up to the depth before the last."""
    children: dict[bytes, tuple[NodeRef, ...]] = field(default_factory=dict)
    cut: set[bytes] = field(default_factory=set)
    """Nodes of which not all children are here."""


def draw(graph: Neighbourhood) -> Tree:
    """A tree of its parents and a tree of its children; what came before is told once."""
    from rich.tree import Tree

    centre = graph.nodes[graph.centre]
    root = Tree(f"[bold]{_label(centre.ref, centre)}[/]")
    for title, edges, more in (
        ("stands on", graph.parents, set()),
        ("is stood on by", graph.children, graph.cut),
    ):
        branch = root.add(f"[dim]{title}[/]")
        _grow(graph, branch, graph.centre, edges.get, more, set())
        if not branch.children:
            branch.add("[dim]nothing yet[/]")
    return root


def _grow(
    graph: Neighbourhood,
    branch: Tree,
    node_id: bytes,
    edges: Callable[[bytes], Sequence[NodeRef] | None],
    cut: set[bytes],
    drawn: set[bytes],
) -> None:
    if node_id in drawn:
        return
    drawn.add(node_id)
    for ref in edges(node_id) or ():
        again = " [dim](above)[/]" if ref.node_id in drawn and edges(ref.node_id) else ""
        twig = branch.add(_label(ref, graph.nodes.get(ref.node_id)) + again)
        _grow(graph, twig, ref.node_id, edges, cut, drawn)
    if node_id in cut:
        branch.add("[dim]… and more[/]")


def _label(ref: NodeRef, node: SealedNode | None) -> str:
    if ref.round == 0:
        return "genesis"
    name = node.tx_id.hex() if node else f"node {ref.node_id.hex()}"
    return f"{name} [dim]round {ref.round}, {ref.seq}[/]"


def to_dot(graph: Neighbourhood) -> str:
    """The same as a Graphviz digraph; edges go from a node to its parents."""
    edges: dict[tuple[bytes, bytes], None] = {}
    refs = {graph.centre: graph.nodes[graph.centre].ref}
    for found, downwards in ((graph.parents, False), (graph.children, True)):
        for node_id, others in found.items():
            for ref in others:
                refs[ref.node_id] = ref
                pair = (ref.node_id, node_id) if downwards else (node_id, ref.node_id)
                edges[pair] = None
    lines = ["digraph citychain {", "  rankdir=BT; node [shape=box, fontname=monospace];"]
    for node_id, ref in refs.items():
        known = graph.nodes.get(node_id)
        name = known.tx_id.hex()[:12] if known else node_id.hex()[:12]
        label = "genesis" if ref.round == 0 else f"{name}\\nround {ref.round}, {ref.seq}"
        style = ", style=bold" if node_id == graph.centre else ""
        lines.append(f'  "{node_id.hex()}" [label="{label}"{style}];')
    lines += [f'  "{child.hex()}" -> "{parent.hex()}";' for child, parent in edges]
    return "\n".join([*lines, "}"])


def to_record(graph: Neighbourhood) -> dict[str, object]:
    """The same for a program: node ids, and for each its parents and children."""
    return {
        "node_id": graph.centre,
        "nodes": [
            {
                "node_id": node_id,
                "tx_id": node.tx_id,
                "round": node.round,
                "seq": node.seq,
                "parents": [ref.node_id.hex() for ref in node.parents],
                "children": [ref.node_id.hex() for ref in graph.children.get(node_id, ())],
            }
            for node_id, node in graph.nodes.items()
        ],
    }
