"""The published vectors for ML-DSA-87: Wycheproof, and NIST's ACVP for FIPS 204.

The files stand outside the repository, in `../shared/vectors`; CITYCHAIN_SHARED names another
place for `../shared`. NIST's are written for the internal algorithms (no context, no prefix), so
they run through the internal functions that the binding keeps for them.
"""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from citychain._native import signatures as native
from citychain.crypto.signatures import PreparedKey, SigningKey, verify, verify_batch
from citychain.errors import InvalidSignature

SHARED = Path(os.environ.get("CITYCHAIN_SHARED", Path(__file__).parents[3] / "shared"))

WYCHEPROOF_CASES = 241
KEY_GENERATION_CASES = 25
SIGNING_CASES = 20
VERIFICATION_CASES = 15


def load(name: str) -> dict[str, Any]:
    path = SHARED / "vectors" / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"the vectors are absent: {path}")
    with gzip.open(path) as file:
        content: dict[str, Any] = json.load(file)
    return content


def acvp_groups(name: str) -> list[dict[str, Any]]:
    """The groups for ML-DSA-87; those for 44 and 65, two thirds of each file, do not concern us."""
    groups = load(name)["testGroups"]
    ours = [group for group in groups if group["parameterSet"] == "ML-DSA-87"]
    assert 3 * len(ours) == len(groups)
    return ours


def holds(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except InvalidSignature:
        return False
    return True


def prepared_holds(public_key: bytes, message: bytes, context: bytes, signature: bytes) -> bool:
    try:
        key = PreparedKey(public_key)
    except ValueError:
        return False
    return holds(key.verify, message, context, signature)


def test_wycheproof_verification() -> None:
    cases = [
        (
            (
                bytes.fromhex(group["publicKey"]),
                bytes.fromhex(case["msg"]),
                bytes.fromhex(case.get("ctx", "")),
                bytes.fromhex(case["sig"]),
            ),
            case,
        )
        for group in load("wycheproof_mldsa_87_verify")["testGroups"]
        for case in group["tests"]
    ]
    assert len(cases) == WYCHEPROOF_CASES
    assert {case["result"] for _, case in cases} == {"valid", "invalid"}
    batch = verify_batch([signed for signed, _ in cases])
    for (signed, case), in_batch in zip(cases, batch, strict=True):
        name = f"{case['tcId']} {case['comment']} {case['flags']}"
        expected = case["result"] == "valid"
        assert holds(verify, *signed) is expected, name
        assert prepared_holds(*signed) is expected, name
        assert in_batch is expected, name


def test_acvp_key_generation() -> None:
    cases = [case for group in acvp_groups("acvp_mldsa_key-gen") for case in group["tests"]]
    assert len(cases) == KEY_GENERATION_CASES
    for case in cases:
        seed = bytes.fromhex(case["seed"])
        expected = bytes.fromhex(case["pk"]), bytes.fromhex(case["sk"])
        assert native.key_pair_internal(seed) == expected, case["tcId"]
        assert SigningKey(seed).public_key == expected[0], case["tcId"]


def test_acvp_signing() -> None:
    groups = acvp_groups("acvp_mldsa_sig-gen")
    assert sorted(group["deterministic"] for group in groups) == [False, True]
    assert sum(len(group["tests"]) for group in groups) == SIGNING_CASES
    for group in groups:
        for case in group["tests"]:
            private_key, message, expected = (
                bytes.fromhex(case[name]) for name in ("sk", "message", "signature")
            )
            randomness = bytes(32) if group["deterministic"] else bytes.fromhex(case["rnd"])
            signature = native.sign_internal(private_key, message, randomness)
            assert signature == expected, case["tcId"]


def test_acvp_verification() -> None:
    groups = acvp_groups("acvp_mldsa_sig-ver")
    assert sum(len(group["tests"]) for group in groups) == VERIFICATION_CASES
    for group in groups:
        public_key = bytes.fromhex(group["pk"])
        prepared = PreparedKey(public_key)
        for case in group["tests"]:
            message, signature = bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])
            expected, name = case["testPassed"], f"{case['tcId']} {case['reason']}"
            assert native.verify_internal(public_key, message, signature) is expected, name
            assert native.verify_prepared_internal(prepared, message, signature) is expected, name
