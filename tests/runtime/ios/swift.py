"""Swift sources as a tree, and the C interface that they call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tree_sitter_swift
from tree_sitter import Language, Node, Parser

import edge_lra

ROOT = Path(edge_lra.__file__).parent.parent
PACKAGE = ROOT / "runtime/ios"
CPP = ROOT / "runtime/cpp"
HEADERS = (CPP / "include/edge_lra.h", PACKAGE / "Sources/CEdgeLRA/include/CEdgeLRA.h")
PARSER = Parser(Language(tree_sitter_swift.language()))


@dataclass
class Interface:
    """What the headers declare.

    Attributes:
        functions: how many parameters each has.
        structs: the fields of each.
        types: all names of types.
        enums: the constants of each enumeration.
        macros: names that stand for a number.
    """

    functions: dict[str, int] = field(default_factory=dict)
    structs: dict[str, set[str]] = field(default_factory=dict)
    types: set[str] = field(default_factory=set)
    enums: dict[str, set[str]] = field(default_factory=dict)
    macros: set[str] = field(default_factory=set)

    @property
    def constants(self) -> set[str]:
        """Every name of a number."""
        return self.macros.union(*self.enums.values())


def read_interface() -> Interface:
    """Read the headers, which are plain C of one style."""
    found = Interface()
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        found.macros |= set(re.findall(r"^#define (EDGE_LRA_\w+) \d+$", text, re.M))
        for kind, body, name in re.findall(
            r"typedef (struct|enum) \w+ \{(.*?)\} (\w+);", text, re.S
        ):
            found.types.add(name)
            if kind == "enum":
                found.enums[name] = set(re.findall(r"(EDGE_LRA_\w+) =", body))
            else:
                found.structs[name] = set(re.findall(r"(\w+);", body))
        found.types |= set(re.findall(r"typedef uint64_t (\w+);", text))
        found.types |= set(re.findall(r"typedef int \(\*(\w+)\)", text))
        for name, parameters in re.findall(
            r"^(?:EDGE_LRA_API |const )[\w *]*?(edge_lra_\w+)\(([^()]*)\);", text, re.M
        ):
            found.functions[name] = 0 if parameters == "void" else parameters.count(",") + 1
    return found


def nodes(root: Node) -> Iterator[Node]:
    """Yield a tree's nodes, parents first."""
    yield root
    for child in root.children:
        yield from nodes(child)


def parse(path: Path) -> Node:
    """Return a file's tree."""
    return PARSER.parse(path.read_bytes()).root_node


def text(node: Node) -> str:
    """Return what stands in a file for a node."""
    return (node.text or b"").decode()


def calls(root: Node) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of arguments of each call of a plain function."""
    for node in nodes(root):
        if node.type == "call_expression" and node.children[0].type == "simple_identifier":
            arguments = [n for n in nodes(node.children[1]) if n.type == "value_arguments"]
            count = (
                sum(c.type == "value_argument" for c in arguments[0].children) if arguments else 0
            )
            yield text(node.children[0]), count


def accesses(root: Node, structs: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Yield struct and field of each access to a variable that was made as an empty struct."""
    for function in nodes(root):
        if function.type not in ("function_declaration", "init_declaration"):
            continue
        made = dict(re.findall(r"var (\w+) = (edge_lra_\w+)\(\)", text(function)))
        for node in nodes(function):
            if node.type == "navigation_expression" and text(node.children[0]) in made:
                struct = made[text(node.children[0])]
                if struct in structs:
                    yield struct, text(node.children[1]).lstrip(".")
