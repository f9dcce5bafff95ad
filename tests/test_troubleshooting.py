"""Every message that the page on troubleshooting quotes is one that the software prints."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
QUOTED = re.findall(r"^- `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


class _Texts(ast.NodeVisitor):
    """Collects every text of a module, ``…`` for each value in it."""

    def __init__(self):
        self.found = []

    def visit_JoinedStr(self, node):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
        self.found.append("".join(parts))
        self.generic_visit(node)  # texts that are chosen inside a value

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.found.append(node.value)


@pytest.fixture(scope="module")
def texts():
    collected = _Texts()
    for path in ROOT.glob("packages/*/src/**/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):  # a docstring is not printed
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = None
        collected.visit(tree)
    return collected.found


def test_the_page_quotes_many_messages_each_once():
    assert len(QUOTED) > 50
    assert len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message, texts):
    fixed = re.compile(".+?".join(map(re.escape, message.split("…"))).removeprefix(".+?"))
    assert any(fixed.search(text) for text in texts), message


def test_every_message_is_followed_by_what_to_do():
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("\n- `") == len(re.findall(r"^- `.+`\n  \S", page, re.MULTILINE)) == len(QUOTED)
