"""The import graph between the files of a Rust crate, read from `use` and from paths in code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

Module = tuple[str, ...]
Graph = dict[Module, set[Module]]

#: Files that are compiled for tests only.
TESTS = {"tests.rs", "testkit.rs", "testing.rs", "properties.rs"}
_USE = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
_PATH = re.compile(r"(?<![\w:])\w+(?:::\w+)+")


def modules(source: Path) -> dict[Module, str]:
    """The modules of a crate with their code, without comments and tests."""
    found = {}
    for path in source.rglob("*.rs"):
        parts = path.relative_to(source).with_suffix("").parts
        if path.name in TESTS or "tests" in parts:
            continue
        code = re.split(r"#\[cfg\((?:all\()?test[^\n]*\]\s*\nmod \w+ \{", path.read_text())[0]
        code = re.sub(r"//[^\n]*|\bmod \w+;|\bpub\([^)]*\)(?! use)", "", code)
        found[parts[:-1] if parts[-1] in {"mod", "lib"} else parts] = code
    return found


def paths(tree: str, before: Module = ()) -> Iterator[Module]:
    """The paths of a `use`: `a::{b, c::{d as e}}` gives `a::b` and `a::c::d`."""
    depth, start = 0, 0
    for place, character in enumerate(f"{tree},"):
        depth += (character == "{") - (character == "}")
        if character != "," or depth:
            continue
        part = re.sub(r"\s+as\s+\w+$", "", tree[start:place].strip())
        start = place + 1
        group = re.fullmatch(r"((?:\w+::)*)\{(.*)\}", part, re.DOTALL)
        if group:
            yield from paths(group[2], (*before, *filter(None, group[1].split("::"))))
        elif part:
            yield (*before, *part.split("::"))


def absolute(path: Module, module: Module, known: Mapping[Module, str]) -> Module | None:
    """A path from the root of the crate; None where it leads to another crate."""
    if path[0] == "crate":
        return path[1:]
    if (*module, path[0]) in known:
        return (*module, *path)
    while path and path[0] in {"super", "self"}:
        module, path = module[:-1] if path[0] == "super" else module, path[1:]
        if not path or path[0] not in {"super", "self"}:
            return (*module, *path)
    return None


def graph(known: Mapping[Module, str]) -> Graph:
    """Module → the modules whose declarations it uses; what a module only hands on is no use of it."""
    handed_on: dict[Module, Module] = {}
    uses: list[tuple[Module, Module]] = []
    for module, code in known.items():
        body = _USE.sub("", code)
        for public, tree in _USE.findall(code):
            for path in paths(tree):
                target = absolute(path, module, known)
                if target is None:
                    continue
                if public:
                    handed_on[(*module, path[-1])] = target
                if not public or re.search(rf"\b{re.escape(path[-1])}\b", body):
                    uses.append((module, target))
        for path in _PATH.findall(body):
            target = absolute(tuple(path.split("::")), module, known)
            if target is not None:
                uses.append((module, target))
    found: Graph = {module: set() for module in known}
    for module, target in uses:
        owner = owner_of(target, known, handed_on)
        if owner != module:
            found[module].add(owner)
    return found


def owner_of(path: Module, known: Mapping[Module, str], handed_on: Mapping[Module, Module]) -> Module:
    """The module that declares what a path names."""
    for length in range(len(path), 0, -1):
        if path[:length] in known:
            return path[:length]
        if path[:length] in handed_on:
            return owner_of((*handed_on[path[:length]], *path[length:]), known, handed_on)
    return ()


def circle(of: Graph) -> list[str]:
    """Modules that use each other in a circle, in its order; none if there is none."""
    done: set[Module] = set()
    way: list[Module] = []

    def walk(module: Module) -> bool:
        if module in way:
            del way[: way.index(module)]
            return True
        if module in done:
            return False
        way.append(module)
        if any(walk(used) for used in sorted(of[module])):
            return True
        done.add(way.pop())
        return False

    return ["::".join(module) or "lib" for module in way] if any(walk(module) for module in sorted(of)) else []
