"""The shape of the whole: what imports what, what is exported, how long a module is, what an import costs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fairlead

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fairlead"

LAYERS = """
    errors version
    headers signature typed url
    body dates
    request
    response
    arriving
    message
    events forks jar looks stream tasks
    core parts
    auth engines observe policies settings
    sharing
    keywords caller
    composed
    bound inbound
    base
    client dialect problem
    asgi endpoint fetch gather offload proxy sync transport
    fastapi
    gateway testing
    demo
    cli
    __main__
"""
"""From the bottom up: a module imports only from the lines above its own, or within its own package."""

CORE = {"httptools", "msgspec", "aiohappyeyeballs", "truststore"}
EXTRAS = {
    "fastapi": {"fastapi", "pydantic-settings"},
    "websocket": {"websockets"},
    "gateway": {"fairlead[fastapi,cli,websocket]", "uvicorn", "uvloop", "jmespath"},
    "cli": {"typer", "rich"},
    "httpx2": {"httpx2[http2,socks]"},
    "aiohttp": {"aiohttp"},
    "redis": {"redis"},
    "cache": {"hishel"},
    "oauth": {"authlib"},
    "signing": {"http-message-signatures"},
    "otel": {"opentelemetry-api"},
    "prometheus": {"prometheus-client"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}
RANKS = {name: rank for rank, line in enumerate(LAYERS.split("\n")) for name in line.split()}


def top(module: str) -> str:
    """The module or package directly below `fairlead` that this is in."""
    return module.split(".")[1]


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Every statement that can run; what stands under `if TYPE_CHECKING` is read by checkers alone, and makes no layer."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield other
                yield from statements(other)
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from statements(child)


def imports(module: str) -> set[str]:
    """The modules of ours that it imports, deferred ones too."""
    found: set[str] = set()
    for statement in statements(TREES[module]):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names if top_level(alias.name) == "fairlead"}
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{module}: a relative import hides where a name comes from"
            if top_level(package := statement.module or "") == "fairlead":
                names = {f"{package}.{alias.name}" for alias in statement.names}
                found |= names & MODULES.keys()
                if names - MODULES.keys():
                    found.add(package)
    return found


def top_level(module: str) -> str:
    return module.partition(".")[0]


INNER = [name for name in MODULES if name != "fairlead"]


@pytest.mark.parametrize("module", INNER)
def test_a_module_imports_only_from_below(module: str) -> None:
    own = top(module)
    assert own in RANKS, f"{own} has no place in LAYERS"
    for imported in imports(module):
        if imported == "fairlead":  # the demo's side of the comparison is written as a user writes it
            assert module == "fairlead.demo.ours", "the surface is for users: import from where the name is made"
            continue
        other = top(imported)
        assert other == own or RANKS[other] < RANKS[own], f"{module} imports {imported}, which is not below it"


def test_nothing_imports_in_a_circle() -> None:
    try:
        TopologicalSorter({module: imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_begins_with_its_idea(module: str) -> None:
    told = ast.get_docstring(TREES[module])
    assert told, "no docstring"
    idea, _, rest = told.partition("\n")
    assert re.fullmatch(r"[A-Z`*].*[.?]", idea), f"the first line is no sentence: {idea!r}"
    assert not rest or rest.startswith("\n"), "the first line runs on: the idea is one sentence, the why follows it"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_fits_a_screens_worth_of_ideas(module: str) -> None:
    lines = len(MODULES[module].read_text("utf-8").splitlines())
    reason = "longer than" in (ast.get_docstring(TREES[module]) or "").lower()
    assert lines <= 250 or reason, (
        f"{lines} lines: make two modules of it, or begin a sentence of its docstring with `Longer than most`"
    )


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_called_by_what_it_is(module: str) -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "handlers"}
    assert not vague & set(module.split("."))


def rank_of_name(name: str) -> tuple[int, str]:
    """Constants, classes, functions, each by the alphabet."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), name


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_a_package_says_what_it_exports(module: str) -> None:
    package = importlib.import_module(module)
    exported = getattr(package, "__all__", None)
    assigned = [
        statement
        for statement in TREES[module].body
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.ImportFrom)
    ]
    if exported is None:
        assert not assigned, "names, and no __all__"
        return
    assert exported == sorted(set(exported), key=rank_of_name)
    assert all(hasattr(package, name) for name in exported)


def test_the_surface_is_small() -> None:
    assert len(fairlead.__all__) <= 30
    assert fairlead.__all__ == sorted(fairlead.__all__)
    public = {name for name in vars(fairlead) if not name.startswith("_") and f"fairlead.{name}" not in sys.modules}
    assert public - {"Any", "TYPE_CHECKING"} <= set(fairlead.__all__)
    assert all(hasattr(fairlead, name) for name in fairlead.__all__)
    assert not hasattr(fairlead, "Retries")
    bodies = [type(statement) for statement in TREES["fairlead"].body]
    assert set(bodies) <= {ast.Expr, ast.ImportFrom, ast.If, ast.Assign, ast.FunctionDef}, (
        "the surface exports, no more"
    )


def test_importing_it_loads_nothing_that_is_not_needed_yet() -> None:
    heavy = [
        "msgspec",
        "httptools",
        "truststore",
        "opentelemetry",
        "pydantic",
        "pydantic_settings",
        "fastapi",
        "starlette",
    ]
    heavy += [
        "typer",
        "rich",
        "httpx2",
        "aiohttp",
        "jmespath",
        "uvicorn",
        "uvloop",
        "typing_extensions",
        "tomllib",
        "email",
        "ipaddress",
        "urllib",
        "random",
        "fairlead.engines",
        "fairlead.policies",
    ]
    code = f"import sys, fairlead; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_it_leaves_everything_as_it_was() -> None:
    code = (
        "import sys, signal, warnings, logging\n"
        "def state(): return (signal.getsignal(signal.SIGINT), warnings.filters[:], sys.excepthook,\n"
        "    logging.root.handlers[:], logging.root.level)\n"
        "before = state(); import fairlead; assert state() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def project() -> dict[str, list[str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found = tomllib.load(file)["project"]
    return {"": found["dependencies"], **found["optional-dependencies"]}


def without_versions(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=;!~ ]", requirement)[0] for requirement in requirements}


def test_the_core_needs_four_libraries_and_extras_the_rest() -> None:
    told = {extra: without_versions(requirements) for extra, requirements in project().items()}
    assert told.pop("") == CORE
    everything = told.pop("all")
    assert told == EXTRAS
    (ours,) = [requirement for requirement in everything if requirement.startswith("fairlead[")]
    assert set(ours[len("fairlead[") : -1].split(",")) >= EXTRAS.keys() - {"fastapi", "cli", "websocket"}


def texts() -> list[Path]:
    suffixes = {
        ".py",
        ".md",
        ".toml",
        ".cfg",
        ".ini",
        ".yml",
        ".yaml",
        ".html",
        ".css",
        ".js",
        ".json",
        ".sh",
        ".conf",
        "",
    }
    below = [
        path
        for folder in ("src", "tests", "docs", "examples", "benchmarks", "fuzz")
        for path in (ROOT / folder).rglob("*")
    ]
    return [
        path
        for path in (*below, *ROOT.glob("*"))
        if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts
    ]


def test_no_file_speaks_of_the_machine_it_was_written_on() -> None:
    machine = re.compile(r"(?<![\w.:~<-])/(?:home/[a-z]\w*|root|work|tmp|Users|mnt)/\w|[A-Z]:\\+Users")
    told = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if machine.search(line)
    ]
    assert told == []
