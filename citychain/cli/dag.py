"""``citychain dag``: where a transaction stands in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from citychain.cli.options import DEFAULT_TIMEOUT, City, Timeout, TxId, parse_id
from citychain.cli.output import Json, answers, print_json
from citychain.cli.reaching import Servers, asks_servers, connect

if TYPE_CHECKING:
    from citychain.cli.graph import Neighbourhood
    from citychain.client.city import CityClient
    from citychain.types import SealedNode

__all__ = ["dag"]

CHILDREN_MAX: Final = 20
"""Children that are shown of one node."""
NODES_MAX: Final = 500


@asks_servers
def dag(
    tx_id: TxId,
    city: City,
    depth: Annotated[int, typer.Option(min=1, max=16, help="Steps up and down.")] = 1,
    dot: Annotated[bool, typer.Option("--dot", help="Write Graphviz DOT.")] = False,
    *,
    servers: Servers,
    timeout: Timeout = DEFAULT_TIMEOUT,
    json: Json = False,
) -> None:
    """Draw a transaction's neighbourhood in the graph: what it stands on, what stands on it.

    Of each node at most 20 children are shown.

    Examples:

        citychain dag --city kanazawa <id> --depth 2
        citychain dag --city kanazawa <id> --dot | dot -Tsvg > graph.svg
    """
    import asyncio

    from citychain.cli.graph import draw, to_dot, to_record

    wanted = parse_id(tx_id, "TX_ID")

    async def ask() -> Neighbourhood:
        async with connect(servers, city, timeout) as client:
            return await _explore(client, wanted, depth)

    graph = asyncio.run(ask())
    if json:
        print_json(to_record(graph))
    elif dot:
        print(to_dot(graph))
    else:
        answers().print(draw(graph))


async def _explore(client: CityClient, tx_id: bytes, depth: int) -> Neighbourhood:
    """Look up the neighbourhood, breadth first, within bounds."""
    from citychain.cli.graph import Neighbourhood
    from citychain.errors import NotFound

    status = (await client.status([tx_id])).get(tx_id)
    if status is None:
        raise NotFound("transaction", tx_id.hex())
    if status.node is None or status.node.node_id is None:
        # Not sealed yet, or rejected.
        raise NotFound("node of transaction", f"{tx_id.hex()} ({status.state.name})")
    centre = status.node.node_id
    graph = Neighbourhood(centre, {centre: status.node})
    above, below = [centre], [centre]
    for _ in range(depth):
        above = [found for node_id in above for found in await _parents(client, graph, node_id)]
        below = [found for node_id in below for found in await _children(client, graph, node_id)]
    return graph


async def _parents(client: CityClient, graph: Neighbourhood, node_id: bytes) -> list[bytes]:
    if node_id in graph.parents or len(graph.nodes) >= NODES_MAX:
        return []
    graph.parents[node_id] = graph.nodes[node_id].parents
    found = [linked.node for linked in await client.parents(node_id)]
    graph.nodes.update((node.ref.node_id, node) for node in found)
    return [node.ref.node_id for node in found]


async def _children(client: CityClient, graph: Neighbourhood, node_id: bytes) -> list[bytes]:
    if node_id in graph.children:
        return []
    found: list[SealedNode] = []
    async for linked in client.children(node_id):
        if len(found) == CHILDREN_MAX or len(graph.nodes) >= NODES_MAX:
            graph.cut.add(node_id)
            break
        found.append(linked.node)
        graph.nodes[linked.node.ref.node_id] = linked.node
    graph.children[node_id] = tuple(node.ref for node in found)
    return [node.ref.node_id for node in found]
