"""Several servers, as the command is given them."""

from pathlib import Path
from typing import Any

import pytest

from citychain.cli.reaching import Servers, Spread
from citychain.client.channels import ChannelFactory
from citychain.errors import ConfigurationError

NOBODY = "127.0.0.1:1"


def targets(*given: str, city: str = "tokyo") -> list[str]:
    return [*Servers(given or None, Spread.PICK_FIRST).channels().targets(city)]


def test_servers_are_given_in_a_list_or_one_by_one() -> None:
    assert targets() == ["ipv4:127.0.0.1:50051"]
    assert targets("10.0.0.1:1,10.0.0.2:2") == ["ipv4:10.0.0.1:1,10.0.0.2:2"]
    assert targets("10.0.0.1:1", "10.0.0.2:2") == ["ipv4:10.0.0.1:1,10.0.0.2:2"]
    assert targets("a:1", "b:2,c:3") == ["dns:///a:1", "dns:///b:2", "dns:///c:3"]


def test_a_city_is_given_its_own() -> None:
    given = ("10.0.0.1:1", "kyoto=10.1.0.1:1,10.1.0.2:2", "kyoto=10.1.0.3:3")
    assert targets(*given) == ["ipv4:10.0.0.1:1"]
    assert targets(*given, city="Kyoto") == ["ipv4:10.1.0.1:1,10.1.0.2:2,10.1.0.3:3"]
    assert targets("washington, d.c.=10.0.0.1:1", city="Washington, D.C.") == ["ipv4:10.0.0.1:1"]


@pytest.mark.parametrize("given", ["", "a", "10.0.0.1:1,", "kyoto=", "10.0.0.1:1 10.0.0.2:2"])
def test_what_is_no_list_of_servers_names_the_option(given: str) -> None:
    with pytest.raises(ConfigurationError, match="--server: "):
        targets(given)


def ask(server: Any, *options: str, env: dict[str, str] | None = None) -> Any:
    """Ask for the city, over the servers that the options, or the environment, name."""
    from cli.conftest import run_here

    where: Path = server.directory
    return run_here("cities", "hometown", "--json", *options, cwd=where, env=env)


@pytest.mark.parametrize("policy", ["pick_first", "round_robin"])
def test_a_dead_server_is_passed_over(server: Any, policy: str) -> None:
    port = server.address.rpartition(":")[2]
    for options in (
        ("-s", f"{NOBODY},{server.address}"),
        ("-s", NOBODY, "-s", server.address),
        ("-s", f"localhost:1,localhost:{port}"),
        ("-s", f"nowhere.invalid:1,{server.address}"),
        ("-s", f"{NOBODY},[::ffff:127.0.0.1]:{port}"),
        ("-s", NOBODY, "-s", f"hometown={server.address}"),
    ):
        ran = ask(server, *options, "--policy", policy)
        assert (ran.code, ran.err) == (0, ""), options
        assert ran.record["city"] == "hometown"


def test_the_environment_says_the_same(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = []
    init = ChannelFactory.__init__

    def noting(self: ChannelFactory, endpoints: Any, policy: Any, **options: Any) -> None:
        policies.append(policy)
        init(self, endpoints, policy, **options)

    monkeypatch.setattr(ChannelFactory, "__init__", noting)
    env = {
        "CITYCHAIN_ADDRESS": f"{NOBODY} hometown={NOBODY},{server.address}",
        "CITYCHAIN_POLICY": "round_robin",
    }
    ran = ask(server, env=env)
    assert (ran.code, ran.err, ran.record["city"]) == (0, "", "hometown")
    assert policies == ["round_robin"]


def test_no_server_at_all_is_told_in_our_words(server: Any) -> None:
    ran = ask(server, "--server", NOBODY, "--timeout", "5")
    assert (ran.code, ran.out) == (3, "")
    assert ran.message == f"citychain: no server listens at {NOBODY}: is it running?"
    ran = ask(server, "--server", "nowhere.invalid:1", "--timeout", "5")
    told = "citychain: no address is known for nowhere.invalid:1: is the name right?"
    assert (ran.code, ran.message) == (3, told)
    ran = ask(server, "--server", "nowhere")
    assert (ran.code, ran.message) == (2, "citychain: --server: 'nowhere' is not host:port")
