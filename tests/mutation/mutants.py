"""Mutants of a source text: each differs from it in one place, by what programs are often wrong by.

Operators of comparison and arithmetic, and/or, conditions negated, signs dropped, numbers and truth values changed,
min/max and any/all swapped, bounds lifted, early returns and statements that only call left out. Annotations,
decorators, docstrings, f-strings and the texts of errors stay as they are.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_SWAPPED = {"min": "max", "minimum": "maximum", "amin": "amax", "fmin": "fmax", "any": "all"}
_SWAPPED |= {new: old for old, new in _SWAPPED.items()}
_BOUNDS = ("clamp", "clamp_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_", "clip")
_CHANGED_THEMSELVES = ast.Compare | ast.BoolOp | ast.UnaryOp  # conditions


@dataclass(frozen=True)
class Mutant:
    """A change of the bytes start, ..., end - 1 of a source; `line` holds them, and `change` says `old -> new`."""

    source: bytes
    start: int
    end: int
    new: str
    change: str

    @property
    def number(self) -> int:
        return self.source.count(b"\n", 0, self.start) + 1

    @property
    def line(self) -> str:
        return self.source.splitlines()[self.number - 1].decode().strip()

    @property
    def text(self) -> bytes:
        return self.source[: self.start] + self.new.encode() + self.source[self.end :]

    @property
    def key(self) -> str:
        """Names the mutant as long as its module is not changed."""
        parts = sha256(self.source).hexdigest(), self.start, self.end, self.new
        return sha256(repr(parts).encode()).hexdigest()[:16]


def mutants(source: bytes) -> list[Mutant]:
    """All mutants of a module, in the order of its text."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found = {}
    for node, changed in _changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        new = ast.unparse(changed)
        change = f"{ast.unparse(node)} -> {new}"
        mutant = Mutant(source, start, end, f"({new})" if isinstance(node, ast.expr) else new, change)
        found.setdefault(mutant.text, mutant)
    return sorted(found.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.new))


def _changes(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Nodes and what takes their place."""
    for node in _reached(tree):
        match node:
            case ast.Compare():
                for i, operator in enumerate(node.ops):
                    for other in _COMPARISONS[type(operator)]:
                        yield node, _with(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
            case ast.BoolOp():
                yield node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            case ast.BinOp() if type(node.op) in _ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
                yield node, _with(node, op=_ARITHMETIC[type(node.op)]())
            case ast.AugAssign() if type(node.op) in _ARITHMETIC and not _is_text(node.value):
                yield node, _with(node, op=_ARITHMETIC[type(node.op)]())
            case ast.UnaryOp():
                yield node, node.operand
            case ast.Constant(value=bool(value)):
                yield node, ast.Constant(not value)
            case ast.Constant(value=int(value) | float(value)):
                yield node, ast.Constant(0 if value == 1 else value + 1)
            case ast.Call(func=ast.Name(name)) if name in _SWAPPED:
                yield node.func, ast.Name(_SWAPPED[name])
            case ast.Call(func=ast.Attribute(of, name)) if name in _SWAPPED:
                yield node.func, ast.Attribute(of, _SWAPPED[name])
            case ast.Call(func=ast.Attribute(of, name)) if name in _BOUNDS:
                yield node, node.args[0] if isinstance(of, ast.Name) and of.id in ("torch", "np") else of
            case ast.If() | ast.IfExp() | ast.While() if not isinstance(
                node.test, ast.Compare | ast.BoolOp | ast.UnaryOp
            ):
                yield node.test, ast.UnaryOp(ast.Not(), node.test)
            case ast.Expr(value=ast.Call()):
                yield node, ast.Pass()
            case ast.FunctionDef():
                for statement in node.body[:-1]:
                    yield from ((inner, ast.Pass()) for inner in _own(statement) if isinstance(inner, ast.Return))


def _reached(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it, less what is never changed."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "pattern"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_left_alone(child, node):
                yield from _reached(child)


def _is_left_alone(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "not TYPE_CHECKING"):
        return True
    if isinstance(parent, ast.Module) and isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
        return isinstance(node.value.op, ast.BitOr)  # a name for a union of types
    return isinstance(node, ast.JoinedStr | ast.Raise)  # no places in f-strings before Python 3.12


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it, less the bodies of functions."""
    if not isinstance(node, ast.FunctionDef | ast.Lambda):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _own(child)


def _with(node: ast.AST, **changed: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in changed.items():
        setattr(other, name, value)
    return other


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
