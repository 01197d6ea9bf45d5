"""The rules of the house, as tables and tests: who may import whom, what stays pure, how long things may get.

The tables at the top are the law; a change to one of them is a decision about the architecture. Each rule is a small
function over the syntax tree that returns its offenders, so that it can itself be tested on bad samples.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# room -> the rooms it may import besides itself; a room is a package or a module right below fortress/
IMPORTS: dict[str, set[str]] = {
    "statuses": set(),
    "errors": {"statuses"},
    "sections": set(),
    "config": {"errors", "sections"},
    "authority": {"errors"},
    "protocol": {"errors"},
    "ledger": {"errors"},
    "monitor": {"errors"},
    "pair": {"errors", "config", "protocol", "ledger"},
    "client": {"errors", "config", "protocol"},
    "server": {"errors", "config", "protocol", "ledger", "pair"},
    "gateway": {"errors", "config", "protocol", "ledger", "pair", "client", "server"},
    "web": {"errors", "config", "protocol", "client"},
    "fortress": {"client"},
    "cli": {
        *("errors", "config", "authority", "protocol", "ledger", "monitor", "pair", "client", "server", "gateway"),
        *("web", "fortress"),
    },
    "__main__": {"cli"},
}

PURE_ROOMS = {"protocol"}
PURE_MODULES = (
    {
        f"fortress.ledger.{name}"
        for name in (
            *("acts", "bank_rules", "commands", "entries", "hold_rules", "merkle", "model", "payment_rules", "records"),
            "rules",
        )
    }
    | {
        f"fortress.pair.{name}"
        for name in (
            *("change", "events", "marks", "messages", "primary_role", "role", "role_state", "standby_role"),
            "witness_messages",
        )
    }
    | {f"fortress.gateway.{name}" for name in ("messages", "participant", "payment")}
)
PURE_MODULES |= {f"fortress.gateway.{name}" for name in ("reconcile",)}
PURE_FRIENDS = {"fortress.errors"}
WORLD = set(
    "aiohttp apsw asyncio concurrent io multiprocessing os pathlib random secrets select selectors signal socket "
    "sqlite3 ssl subprocess tempfile threading time uvloop".split()
)
# what reads a clock or draws entropy though its module may be imported
CLOCKS = {"now", "utcnow", "today"}
ENTROPY = {"generate", "generate_key", "getrandbits", "randombytes", "urandom", "uuid1", "uuid4", "uuid7"}
WORLD_CALLS = {"open", "input", "print"}

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
CLASS_METHODS_MAX = 25
NESTING_MAX = 4
ARCHITECTURE_LINES_MAX = 400

# module -> why it has no test file of its own
WITHOUT_OWN_TEST = {
    "fortress.sections": "nothing but declarations; what reads them is tested with fortress.config",
    "fortress.web.administration": "nothing but types; tests/web/test_operations.py describes them all",
    "fortress.web.shapes": "nothing but types; tests/web/test_operations.py describes them all",
    "fortress.__main__": "one call; the end-to-end tests start the program by it",
}

# module -> which last line of a shell catches everything, logs it and closes
CATCHES_EVERYTHING = {
    "fortress.cli.main": "the last line of the program: a bug is shown in three lines, as any error is",
    "fortress.server.handlers": "a fault in one request is logged and answered, and ends neither session nor server",
    "fortress.server.committer": "a fault in one command or answer is logged, and all others are still answered",
    "fortress.pair.replication": "after a fault in the machine nothing it says counts: logged, and the node crashes",
    "fortress.gateway.links": "a fault in one question is logged and answered, and the link goes on",
    "fortress.web.site": "a fault in one request is logged and answered, and the pages go on",
    "fortress.server.workers": "what a job raises goes to the loop, which decides",
}

NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "base"}
# spelled in two pieces so that this file does not offend itself
LEFTOVERS = re.compile(r"\b(?:TO" r"DO|FIX" r"ME)\b")
TYPE_IGNORE = re.compile(r"#\s*type:\s*ig" r"nore")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s:,-]{32,}")
TEXT_SUFFIXES = {".py", ".md", ".cfg", ".toml", ".txt", ".yml", ".yaml", ".sh", ""}

Block = ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.TryStar | ast.Match
Function = ast.FunctionDef | ast.AsyncFunctionDef


# --- reading the tree -----------------------------------------------------------------------------------------------


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted((ROOT / "fortress").rglob("*.py"))}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file of the repository, also those not yet added; never what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout
    paths = (ROOT / name for name in listed.decode().split("\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def python_files() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".py"]


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def is_pure(module: str) -> bool:
    return room_of(module) in PURE_ROOMS or module in PURE_MODULES


def pure_modules() -> list[str]:
    return [module for module in modules() if is_pure(module)]


def own_test(module: str) -> Path:
    path = modules()[module].relative_to(ROOT / "fortress")
    return ROOT / "tests" / path.parent / f"test_{path.name}"


def imported_names(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[tuple[str, str | None]]:
    """Give each import as (module, name or None), wherever it stands; relative ones made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if is_package else module.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((source, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"} and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                yield target.value, None


def fortress_imports(tree: ast.Module, module: str, known: set[str], *, is_package: bool = False) -> set[str]:
    """Give the Fortress modules that this one imports; the version is everybody's and does not count."""
    found = set()
    for source, name in imported_names(tree, module, is_package=is_package):
        if source.split(".")[0] != "fortress" or (source, name) == ("fortress", "__version__"):
            continue
        found.add(f"{source}.{name}" if name and f"{source}.{name}" in known else source)
    return found - {module}


def called_name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@cache
def import_graph() -> dict[str, set[str]]:
    known = set(modules())
    return {
        module: fortress_imports(tree_of(path), module, known, is_package=path.name == "__init__.py")
        for module, path in modules().items()
    }


# --- rules over one syntax tree -------------------------------------------------------------------------------------


def worldly(tree: ast.Module) -> list[str]:
    """Find what touches the world: imports of it, clocks, entropy, files."""
    sources = (source for source, _ in imported_names(tree, "m", is_package=False))
    found = [f"imports {source}" for source in sources if source.split(".")[0] in WORLD]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
            if node.attr in ENTROPY or (node.attr in CLOCKS and owner in {"date", "datetime"}):
                found.append(f"line {node.lineno}: .{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WORLD_CALLS:
            found.append(f"line {node.lineno}: {node.func.id}()")
    return found


def long_functions(tree: ast.Module) -> list[str]:
    functions = (node for node in ast.walk(tree) if isinstance(node, Function))
    lengths = ((node, (node.end_lineno or node.lineno) - node.lineno + 1) for node in functions)
    return [f"{node.name}: {lines} lines" for node, lines in lengths if lines > FUNCTION_LINES_MAX]


def large_classes(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = {item.name for item in node.body if isinstance(item, Function)}
            if len(methods) > CLASS_METHODS_MAX:
                found.append(f"{node.name}: {len(methods)} methods")
    return found


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Measure how deep blocks stand in blocks; a function begins anew and elif is no level of its own."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child.col_offset == node.col_offset
        deepest = max(deepest, nesting(child, depth + (isinstance(child, Block) and not is_elif)))
    return deepest


def deep_functions(tree: ast.Module) -> list[str]:
    depths = ((node, nesting(node)) for node in ast.walk(tree) if isinstance(node, Function))
    return [f"{node.name}: {depth} deep" for node, depth in depths if depth > NESTING_MAX]


def bare_excepts(tree: ast.Module) -> list[str]:
    handlers = (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))
    return [f"line {node.lineno}" for node in handlers if node.type is None]


def broad_excepts(tree: ast.Module) -> list[str]:
    """Find where everything is caught, or silenced by suppress()."""
    found = []
    for node in ast.walk(tree):
        caught: list[ast.expr] = []
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        elif isinstance(node, ast.Call) and called_name(node) == "suppress":
            caught = node.args
        found += [f"line {item.lineno}" for item in caught if getattr(item, "id", "") in {"Exception", "BaseException"}]
    return found


def offenders(rule: Callable[[ast.Module], list[str]], paths: list[Path]) -> list[str]:
    return [f"{path.relative_to(ROOT)}: {what}" for path in paths for what in rule(tree_of(path))]


def lines_that_match(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


# --- imports --------------------------------------------------------------------------------------------------------


def test_every_room_stands_in_the_table() -> None:
    """A new room is a decision: it gets a row before it gets code."""
    assert {room_of(module) for module in modules()} - set(IMPORTS) == set()


def test_the_table_itself_has_no_cycle() -> None:
    """The rooms can be put in one order, each knowing only earlier ones."""
    TopologicalSorter(IMPORTS).prepare()


def test_imports_go_down() -> None:
    """A room imports itself and what its row names, nothing else."""
    found = [
        f"{module} imports {target}"
        for module, targets in import_graph().items()
        for target in sorted(targets)
        if room_of(target) not in IMPORTS[room_of(module)] | {room_of(module)}
    ]
    assert found == []


def test_no_module_imports_itself_by_a_detour() -> None:
    """Modules form no cycle, lazy imports and those for types included."""
    # the door's lazy connect points down from the root, which every import passes anyway
    graph = {module: targets for module, targets in import_graph().items() if module != "fortress"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(" -> ".join(exc.args[1]))


# --- purity ---------------------------------------------------------------------------------------------------------


def test_pure_modules_do_not_touch_the_world() -> None:
    """Time and entropy are arguments; no loop, socket, file or database."""
    assert offenders(worldly, [modules()[module] for module in pure_modules()]) == []


def test_pure_modules_import_only_pure_ones() -> None:
    """What a pure module builds on is pure as well."""
    found = [
        f"{module} imports {target}"
        for module in pure_modules()
        for target in sorted(import_graph()[module])
        if not is_pure(target) and target not in PURE_FRIENDS and target != "fortress.ledger"
    ]
    assert found == []


# --- sizes ----------------------------------------------------------------------------------------------------------


def code_files() -> list[Path]:
    return [path for path in python_files() if path.relative_to(ROOT).parts[0] in {"fortress", "bench"}]


def test_modules_are_short_enough_to_see() -> None:
    """No module has more lines than one can keep in mind."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in code_files()}
    assert [f"{path.relative_to(ROOT)}: {n}" for path, n in lengths.items() if n > MODULE_LINES_MAX] == []


@pytest.mark.parametrize("rule", [long_functions, large_classes, deep_functions], ids=lambda rule: str(rule.__name__))
def test_functions_and_classes_are_short_enough_to_see(rule: Callable[[ast.Module], list[str]]) -> None:
    """No function is longer or deeper, and no class wider, than the house allows."""
    assert offenders(rule, code_files()) == []


def test_the_architecture_page_stays_readable() -> None:
    """The page that explains everything is read in one sitting."""
    assert len((ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines()) <= ARCHITECTURE_LINES_MAX


# --- signs and names ------------------------------------------------------------------------------------------------


def test_every_package_has_a_sign_on_its_door() -> None:
    """Each package says in more than one sentence what it is for, what it knows and what not."""
    packages = [path for path in modules().values() if path.name == "__init__.py"]
    signs = {path: ast.get_docstring(tree_of(path)) or "" for path in packages}
    wanting = [path for path, sign in signs.items() if "know" not in sign.lower() or sign.count(".") < 2]
    assert [str(path.relative_to(ROOT)) for path in wanting] == []


def test_every_folder_of_code_is_a_package() -> None:
    """A folder without a sign is not a room."""
    folders = {path.parent for path in modules().values()}
    assert [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_module_begins_with_a_sentence() -> None:
    """A newcomer learns from the first line what a module is for."""
    first = {path: (ast.get_docstring(tree_of(path)) or "").split("\n\n")[0] for path in python_files()}
    wanted = {path: text for path, text in first.items() if path.stat().st_size}
    assert [str(path.relative_to(ROOT)) for path, text in wanted.items() if "." not in text and ":" not in text] == []


def test_file_names_say_something() -> None:
    """A file is a noun that says what it holds."""
    assert [str(path.relative_to(ROOT)) for path in python_files() if path.stem in NAMES_THAT_SAY_NOTHING] == []


# --- tests ----------------------------------------------------------------------------------------------------------


def test_every_module_has_its_own_test_file() -> None:
    """The tests mirror the code, so that one finds the tests of a module without searching."""
    wanted = {
        module: own_test(module).relative_to(ROOT)
        for module, path in modules().items()
        if path.name != "__init__.py" and module not in WITHOUT_OWN_TEST
    }
    assert [f"{module}: {path}" for module, path in wanted.items() if not (ROOT / path).is_file()] == []


def test_exemptions_are_still_needed() -> None:
    """An exemption whose reason is gone goes as well."""
    assert [module for module in WITHOUT_OWN_TEST if module not in modules() or own_test(module).exists()] == []
    assert [m for m in CATCHES_EVERYTHING if m not in modules() or not broad_excepts(tree_of(modules()[m]))] == []


# --- habits ---------------------------------------------------------------------------------------------------------


def test_nothing_is_left_for_later() -> None:
    """What is not done is not in main as a note in the code."""
    assert lines_that_match(LEFTOVERS, [p for p in repository_files() if p.suffix in TEXT_SUFFIXES]) == []


def test_types_are_never_ignored() -> None:
    """The type checker is convinced, not silenced."""
    assert lines_that_match(TYPE_IGNORE, python_files()) == []


def test_no_except_is_bare() -> None:
    """Nothing catches what it cannot name."""
    assert offenders(bare_excepts, python_files()) == []


def test_only_shells_catch_everything() -> None:
    """Only the last line of a shell catches every exception, to log it and close."""
    paths = [path for module, path in modules().items() if module not in CATCHES_EVERYTHING]
    assert offenders(broad_excepts, paths) == []


def test_no_private_key_is_in_the_repository() -> None:
    """Keys are made where they are used and never committed."""
    found = [p for p in repository_files() if p.suffix == ".key" or PRIVATE_KEY.search(p.read_bytes())]
    assert [str(path.relative_to(ROOT)) for path in found] == []


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "fortress/py.typed"])
def test_what_a_newcomer_looks_for_exists(name: str) -> None:
    """The pages that a visitor expects are there."""
    assert (ROOT / name).is_file()


# --- the rules see what they look for -------------------------------------------------------------------------------

DEEP = "def f(x):\n" + "".join(f"{'    ' * level}if x:\n" for level in range(1, 6)) + f"{'    ' * 6}pass\n"
ELIFS = "def f(x):\n    if x:\n        pass\n" + "    elif x:\n        pass\n" * 8


@pytest.mark.parametrize(
    ("rule", "source", "count"),
    [
        (worldly, "import time", 1),
        (worldly, "from os import path", 1),
        (worldly, "def f():\n    import asyncio.events", 1),
        (worldly, "import datetime\nx = datetime.datetime.now()", 1),
        (worldly, "import uuid\nx = uuid.uuid4()", 1),
        (worldly, "open('f')", 1),
        (worldly, "def f(command):\n    return command.now", 0),
        (worldly, "import hashlib, datetime\nx = datetime.date(2000, 1, 1)", 0),
        (long_functions, "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX, 1),
        (long_functions, "async def f():\n" + "    pass\n" * (FUNCTION_LINES_MAX - 1), 0),
        (large_classes, "class C:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(26)), 1),
        (large_classes, "class C:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(25)), 0),
        (deep_functions, DEEP, 1),
        (deep_functions, ELIFS, 0),
        (bare_excepts, "try:\n    pass\nexcept:\n    pass", 1),
        (broad_excepts, "try:\n    pass\nexcept (OSError, Exception):\n    pass", 1),
        (broad_excepts, "try:\n    pass\nexcept BaseException:\n    raise", 1),
        (broad_excepts, "with contextlib.suppress(Exception):\n    pass", 1),
        (broad_excepts, "try:\n    pass\nexcept OSError:\n    pass", 0),
    ],
)
def test_a_rule_finds_its_offenders(rule: Callable[[ast.Module], list[str]], source: str, count: int) -> None:
    """Each rule is shown a sample of what it forbids, and of what it must let pass."""
    assert len(rule(ast.parse(source))) == count


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import fortress.pair.role", {"fortress.pair.role"}),
        ("from fortress.pair import role", {"fortress.pair.role"}),
        ("from fortress.pair import Role", {"fortress.pair"}),
        ("from . import rules", {"fortress.ledger.rules"}),
        ("from .rules import judge", {"fortress.ledger.rules"}),
        ("from ..pair.role import Role", {"fortress.pair.role"}),
        ("def f():\n    from fortress.pair.role import Role", {"fortress.pair.role"}),
        ("importlib.import_module('fortress.pair.role')", {"fortress.pair.role"}),
        ("from fortress import __version__", set()),
        ("from fortress import connect", {"fortress"}),
        ("import fortressed", set()),
    ],
)
def test_every_way_to_import_is_seen(source: str, expected: set[str]) -> None:
    """Absolute, relative, lazy and dynamic imports all count."""
    known = {"fortress.ledger.model", "fortress.ledger.rules", "fortress.pair", "fortress.pair.role"}
    assert fortress_imports(ast.parse(source), "fortress.ledger.model", known) == expected


def test_the_search_for_keys_finds_one() -> None:
    """A key block is found, the mere words are not."""
    words = b"-----BEGIN " + b"EC PRIVATE KEY-----"
    assert PRIVATE_KEY.search(words + b"\n" + b"MHcCAQEEIIrYSSNQ" * 4 + b"\n")
    assert not PRIVATE_KEY.search(words + b' in text"')
