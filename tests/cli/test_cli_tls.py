"""Commands and servers that speak TLS with each other; docs/security.md."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Ran
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store
from docs.running import run_commands
from tls_files import dev_certificates

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dev_certificates(tmp_path_factory.mktemp("tls") / "tls")


def test_what_the_page_says_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [commands] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    [python] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    python = python.replace('"127.0.0.1:50051"', 'os.environ["CITYCHAIN_ADDRESS"]')
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("FROM_PYTHON", "import os\n" + python)
    told = run_commands(commands + '"$PYTHON" -c "$FROM_PYTHON"\n', tmp_path, monkeypatch)
    assert "APPROVED" in told.upper()
    assert told.splitlines()[-1] == "1"


def test_certificates_to_try_it_with_hold(
    made: Path, tmp_path: Path, citychain: Callable[..., Ran]
) -> None:
    given = ("--host", "town.example", "--host", "192.0.2.7", "--json")
    ran = citychain("certs", "dev", "--dir", "tls", *given, cwd=tmp_path)
    folder = tmp_path / "tls"
    assert {tmp_path / path for name, path in ran.record.items() if name != "expires"} == {
        *folder.iterdir()
    }
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {"server.key", "client.key"}
    ca, server, client = (
        x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        for name in ("ca", "server", "client")
    )
    trusted = PolicyBuilder().store(Store([ca]))
    for host in ("localhost", "town.example"):
        trusted.build_server_verifier(x509.DNSName(host)).verify(server, [])
    with pytest.raises(x509.verification.VerificationError):
        trusted.build_server_verifier(x509.DNSName("town.example")).verify(client, [])
    again = citychain("certs", "dev", "--dir", "tls", cwd=tmp_path)
    assert (again.code, again.message) == (
        2,
        "citychain: tls/ca.crt: is there already; choose another --dir",
    )
    wrong = citychain("certs", "dev", "--dir", "other", "--host", "a b", cwd=tmp_path)
    assert (wrong.code, wrong.message) == (
        2,
        "citychain: --host: 'a b' is no name of a host, nor an address",
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--client-certificate", "client.crt"],
            "--client-certificate: give this and --client-key",
        ),
        (
            ["--client-certificate", "client.crt", "--client-key", "client.key"],
            "--client-certificate: give --ca, too",
        ),
        (["--ca", "nothing"], "nothing: cannot be read: No such file or directory"),
        (["--ca", "client.key"], "client.key: has no certificate in PEM"),
        (
            ["--ca", "ca.crt", "--client-certificate", "client.crt", "--client-key", "server.key"],
            "server.key: is not the key of client.crt",
        ),
    ],
)
def test_wrong_files_are_told_before_anything_is_asked(
    made: Path, citychain: Callable[..., Ran], options: list[str], told: str
) -> None:
    ran = citychain("cities", "--server", "127.0.0.1:1", *options, cwd=made)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.message


def test_fragments_are_stored_over_tls(
    made: Path, tmp_path: Path, citychain: Callable[..., Ran], start: Callable[..., Any]
) -> None:
    (tmp_path / "kept").mkdir()
    pair = ("--certificate", made / "server.crt", "--key", made / "server.key")
    mutual = (*pair, "--client-ca", made / "ca.crt")
    where = ("--dir", "kept", "--listen", "127.0.0.1:0", "--json")
    process = start("storage-server", *where, *mutual, cwd=tmp_path)
    address = json.loads(process.stdout.readline())["address"]
    (tmp_path / "deed.txt").write_text("a deed\n")
    tls = {"ca": "ca.crt", "certificate": "client.crt", "key": "client.key"}
    tables = {
        "mutual": "tls = { " + ", ".join(f'{k} = "{made / v}"' for k, v in tls.items()) + " }",
        "plain": "",
    }
    code = {}
    for name, table in tables.items():
        (tmp_path / "citychain.toml").write_text(
            f'[fragments]\ndata = 1\nparity = 0\n[fragments.stores.cellar]\nkind = "remote"\n'
            f'endpoint = "{address}"\n{table}\n'
        )
        code[name] = citychain("store", "deed.txt", cwd=tmp_path)
    assert code["mutual"].code == 0, code["mutual"].err
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert code["plain"].code == 3
    assert "closed the connection: if it speaks TLS, give its CA" in code["plain"].err
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "ssl" not in said.lower(), "the core of gRPC writes by itself"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--certificate", "server.crt"], "--certificate: give this and --key, both"),
        (["--client-ca", "ca.crt"], "--certificate: give this and --key, both"),
        (
            ["--certificate", "server.crt", "--key", "client.key"],
            "TLS of the server: client.key: is not the key of server.crt",
        ),
    ],
)
def test_wrong_files_keep_a_storage_server_from_starting(
    made: Path, citychain: Callable[..., Ran], options: list[str], told: str
) -> None:
    ran = citychain("storage-server", "--dir", ".", "--listen", "127.0.0.1:0", *options, cwd=made)
    assert ran.code == 2
    assert told in ran.err.splitlines()[-1]
