"""Measure how the code of the packages is cut into folders, files, functions and imports.

Run as ``python tests/bench/house.py [CHECKOUT]``: prints a table for each package and in all, and the lists of what is
long or wide. ``--step FILE...`` counts the files and lines that a reader of one training step needs. Nothing is
imported: the sources are parsed, so any checkout will do.

- A module is a source file other than ``__init__`` and ``__main__``; lines are those of all files, blank ones included.
- A body reaches from the first statement after the docstring to the last line, so that neither the signature, in
  which a command declares its options, nor documentation makes a function long.
- ``self`` and ``cls`` are no parameters; commands are listed apart, because each option of theirs is one.
- A face is the ``__init__`` of a package or of a sub-package. An import from another package that names a module
  deeper than a face goes past it; those that other projects use are allowed (`OPEN_MODULES`).
- An arrow is a pair of modules of one package of which one imports the other, anywhere in its code.
"""

import argparse
import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

LONG_BODY = 60
"""Lines; longer functions are listed."""

LONG_COMMAND = 40
"""Lines; commands should do less themselves."""

MANY_PARAMETERS = 8
"""More of them are listed."""

WIDE_TYPE = "ResolvedStage"
"""A record of everything: functions that take it say little about what they use."""

OPEN_MODULES = frozenset({"polaris_reward.trl", "polaris_reward.verl"})
"""What other projects import by its full name."""


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method."""

    place: str
    """``package/module.py:line name``."""

    num_lines: int
    """Of its body."""

    num_parameters: int
    """Without ``self`` and ``cls``."""

    is_command: bool
    """Whether typer calls it for a command."""

    is_wide: bool
    """Whether a parameter is a `WIDE_TYPE`."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module."""

    importer: str
    """Dotted name of the module that imports."""

    imported: str
    """Dotted name of the module or package that is imported."""

    place: str
    """``package/module.py:line``."""


class Module:
    """A source file, read and parsed."""

    def __init__(self, path: Path, src: Path) -> None:
        """Read a file below a ``src`` folder."""
        relative = path.relative_to(src)
        text = path.read_text(encoding="utf-8")
        parts = relative.with_suffix("").parts
        self.is_plain = path.stem not in {"__init__", "__main__"}
        self.is_face = path.stem == "__init__"
        self.name = ".".join(parts[:-1] if self.is_face else parts)
        self.place = str(relative)
        self.num_lines = len(text.splitlines())
        self.tree = ast.parse(text)


class Package:
    """All modules of one distribution."""

    def __init__(self, src: Path) -> None:
        """Read the only package below a ``src`` folder."""
        self.modules = [Module(path, src) for path in sorted(src.rglob("*.py"))]
        self.name = min(module.name.partition(".")[0] for module in self.modules)

    @cached_property
    def functions(self) -> list[Function]:
        """Every function, those within classes and functions too."""
        commands = {name for module in self.modules for name in _registered(module.tree)}
        return [each for module in self.modules for each in _functions(module, commands)]

    def imports(self, known: frozenset[str]) -> list[Import]:
        """Return what its modules import of the modules that are known."""
        return [each for module in self.modules for each in _imports(module, known)]


def main() -> None:
    """Print the measures of a checkout, or the size of the files that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=Path(__file__).resolve().parents[2])
    parser.add_argument("--step", type=Path, nargs="+", metavar="FILE", help="count these files and their lines")
    arguments = parser.parse_args()
    if arguments.step:
        lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in arguments.step]
        print(f"{len(lines)} files, {sum(lines):,} lines")
        return
    sources = sorted(arguments.checkout.glob("packages/*/src"))
    if not sources:
        parser.error(f"{arguments.checkout} has no packages/*/src; give the folder of a checkout")
    print(report([Package(src) for src in sources]))


def report(packages: Sequence[Package]) -> str:
    """Return the tables and lists as markdown."""
    modules = {module.name: module for package in packages for module in package.modules}
    imports = {package.name: package.imports(frozenset(modules)) for package in packages}
    past = {name: [each for each in found if _goes_past_a_face(each, modules)] for name, found in imports.items()}
    arrows = {name: {(each.importer, each.imported) for each in found} for name, found in imports.items()}
    inner = {name: sum(_owner(a) == _owner(b) and a != b for a, b in found) for name, found in arrows.items()}
    columns = [*([package] for package in packages), list(packages)]
    rows: list[tuple[str, Callable[[Sequence[Package]], object]]] = [
        ("modules", lambda chosen: len(_plain(chosen))),
        ("`__init__`, `__main__`", lambda chosen: len(_modules(chosen)) - len(_plain(chosen))),
        ("sub-packages", lambda chosen: sum(module.is_face for module in _modules(chosen)) - len(chosen)),
        ("most modules in one folder", lambda chosen: max(map(_largest_folder, chosen))),
        ("lines", lambda chosen: sum(module.num_lines for module in _modules(chosen))),
        ("median file", lambda chosen: median(module.num_lines for module in _plain(chosen))),
        ("largest file", lambda chosen: _largest_file(_plain(chosen))),
        ("functions", lambda chosen: len(_functions_of(chosen))),
        ("median body", lambda chosen: median(each.num_lines for each in _functions_of(chosen))),
        ("largest body", lambda chosen: max(each.num_lines for each in _functions_of(chosen))),
        (f"bodies above {LONG_BODY} lines", lambda chosen: len(_long(chosen))),
        (f"more than {MANY_PARAMETERS} parameters", lambda chosen: len(_many_parameters(chosen, commands=False))),
        ("commands", lambda chosen: sum(each.is_command for each in _functions_of(chosen))),
        (f"commands above {LONG_COMMAND} lines", lambda chosen: len(_long_commands(chosen))),
        (f"functions that take a {WIDE_TYPE}", lambda chosen: len(_wide(chosen))),
        ("imports past a face", lambda chosen: sum(len(past[package.name]) for package in chosen)),
        ("arrows within the package", lambda chosen: sum(inner[package.name] for package in chosen)),
    ]
    names = [*(package.name.removeprefix("polaris_") for package in packages), "all"]
    table = [["", *names], ["---", *("---:" for _ in names)]]
    table += [[title, *(_figure(measure(chosen)) for chosen in columns)] for title, measure in rows]
    many = f"more than {MANY_PARAMETERS} parameters"
    lists = [
        (f"Bodies above {LONG_BODY} lines", _by_lines(_long(packages))),
        (f"Commands above {LONG_COMMAND} lines", _by_lines(_long_commands(packages))),
        (f"Functions with {many}", _by_parameters(_many_parameters(packages, commands=False))),
        (f"Commands with {many}", _by_parameters(_many_parameters(packages, commands=True))),
        (f"Functions that take a {WIDE_TYPE}", [each.place for each in _wide(packages)]),
        ("Imports past a face", [f"{each.place} {each.imported}" for found in past.values() for each in found]),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    for title, entries in lists:
        lines += ["", f"## {title}: {len(entries)}", "", *(f"- {entry}" for entry in entries)]
    return "\n".join(lines)


def _modules(packages: Sequence[Package]) -> list[Module]:
    return [module for package in packages for module in package.modules]


def _plain(packages: Sequence[Package]) -> list[Module]:
    return [module for module in _modules(packages) if module.is_plain]


def _largest_folder(package: Package) -> int:
    folders = [module.place.rpartition("/")[0] for module in package.modules if module.is_plain]
    return max(folders.count(folder) for folder in set(folders))


def _largest_file(modules: Sequence[Module]) -> str:
    largest = max(modules, key=lambda module: module.num_lines)
    return f"{largest.num_lines} ({largest.place.rpartition('/')[2]})"


def _functions_of(packages: Sequence[Package]) -> list[Function]:
    return [each for package in packages for each in package.functions]


def _long(packages: Sequence[Package]) -> list[Function]:
    return [each for each in _functions_of(packages) if each.num_lines > LONG_BODY]


def _long_commands(packages: Sequence[Package]) -> list[Function]:
    return [each for each in _functions_of(packages) if each.is_command and each.num_lines > LONG_COMMAND]


def _many_parameters(packages: Sequence[Package], *, commands: bool) -> list[Function]:
    wide = [each for each in _functions_of(packages) if each.num_parameters > MANY_PARAMETERS]
    return [each for each in wide if each.is_command == commands]


def _by_lines(functions: Sequence[Function]) -> list[str]:
    return [f"{each.num_lines} {each.place}" for each in sorted(functions, key=lambda each: -each.num_lines)]


def _by_parameters(functions: Sequence[Function]) -> list[str]:
    return [f"{each.num_parameters} {each.place}" for each in sorted(functions, key=lambda each: -each.num_parameters)]


def _wide(packages: Sequence[Package]) -> list[Function]:
    return [each for each in _functions_of(packages) if each.is_wide]


def _figure(value: object) -> str:
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _registered(tree: ast.Module) -> Iterator[str]:
    """Yield names that ``app.command(...)(name)`` registers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _makes_command(node.func):
            yield from (each.id for each in node.args if isinstance(each, ast.Name))


def _makes_command(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "command"


def _functions(module: Module, commands: set[str]) -> Iterator[Function]:
    outer = set(module.tree.body)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            parameters += [each for each in (node.args.vararg, node.args.kwarg) if each]
            annotations = [ast.unparse(each.annotation) for each in parameters if each.annotation]
            yield Function(
                place=f"{module.place}:{node.lineno} {node.name}",
                num_lines=_body_lines(node),
                num_parameters=sum(each.arg not in {"self", "cls"} for each in parameters),
                is_command=(node in outer and node.name in commands) or any(map(_makes_command, node.decorator_list)),
                is_wide=any(WIDE_TYPE in annotation for annotation in annotations),
            )


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _imports(module: Module, known: frozenset[str]) -> Iterator[Import]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # What is imported may be a name of the module or a module itself.
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            named = list(dict.fromkeys(name if name in known else node.module for name in deeper))
        else:
            continue
        for name in named:
            if name in known:
                yield Import(importer=module.name, imported=name, place=f"{module.place}:{node.lineno}")


def _goes_past_a_face(each: Import, modules: dict[str, Module]) -> bool:
    other = _owner(each.importer) != _owner(each.imported)
    return other and not modules[each.imported].is_face and each.imported not in OPEN_MODULES


def _owner(module: str) -> str:
    return module.partition(".")[0]


if __name__ == "__main__":
    main()
