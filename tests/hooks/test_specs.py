"""Every hook says how it is used, and what it says works."""

from __future__ import annotations

import inspect
import re
import textwrap

import pytest
from throwaway import Site

from citychain.hooks import specs

HOOKS = sorted(name for name in vars(specs) if name.startswith("citychain_"))


def example(hook: str) -> str:
    """The plugin in a hook's docstring."""
    _, _, block = inspect.cleandoc(getattr(specs, hook).__doc__).partition("::\n")
    return textwrap.dedent(re.split(r"\n(?=\S)", block, maxsplit=1)[0])


@pytest.mark.parametrize("hook", HOOKS)
def test_the_plugin_in_a_hooks_docstring_works(site: Site, hook: str) -> None:
    site.install("example", example(hook), preamble="")
    (record,) = site.load().records
    assert (record.status, record.reason, record.hooks) == ("active", "", (hook,))
