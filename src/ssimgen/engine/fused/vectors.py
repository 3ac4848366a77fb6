"""SIMD vectors for numba kernels: as many lanes as a register of this CPU holds.

LLVM vectorises a loop only if it can prove much about it, and then to half the width of AVX-512. Kernels
written with these vectors do not depend on that: `load`, arithmetic with + - * /, `fma`, `store`. LLVM
translates them for any CPU; the widths below only choose the number of lanes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model


def _register_bytes() -> int:
    features = llvmlite.binding.get_host_cpu_features()
    return next((size for name, size in (("avx512f", 64), ("avx", 32)) if features.get(name)), 16)


REGISTER_BYTES = _register_bytes()


class Vector(types.Type):
    """numba type of a vector register."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = REGISTER_BYTES * 8 // dtype.bitwidth
        super().__init__(f"Vector({dtype} x {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        scalar = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(scalar, vector.lanes))


def instruction(generator: Callable[..., Any]) -> Any:
    """numba's intrinsic, to the type checker a function of whatever kernels call it with."""
    return intrinsic(generator)


def _arithmetic(operation: Any, instruction: str) -> None:
    @infer_global(operation)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(operation, Vector, Vector)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _operation, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_operation, _name)


@instruction
def lanes(typingctx: Any, array: Any) -> Any:
    """How many elements of `array` one vector holds."""
    count = Vector(array.dtype).lanes

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, count)

    return types.intp(array), generate


@instruction
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index : index + lanes], of a contiguous array, as a vector; bounds are not checked."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, sig, args), align=sig.args[0].dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), generate


@instruction
def store(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + lanes] = vector; bounds are not checked."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, sig, args), align=sig.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, Vector(array.dtype)), generate


@instruction
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for array[index] to be brought into the first cache; any index is allowed."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.bitcast(element(context, builder, sig, args), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, *[ir.IntType(32)] * 3])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, to_all_caches, data = (ir.Constant(ir.IntType(32), number) for number in (0, 3, 1))
        builder.call(function, [pointer, to_read, to_all_caches, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@instruction
def clear(typingctx: Any, array: Any, index: Any, count: Any) -> Any:
    """array[index : index + count] = 0, of a contiguous array; bounds are not checked."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = builder.mul(args[2], ir.Constant(args[2].type, sig.args[0].dtype.bitwidth // 8))
        cgutils.memset(builder, element(context, builder, sig, args), size, 0)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


@instruction
def copy(typingctx: Any, source: Any, at: Any, target: Any, to: Any, count: Any) -> Any:
    """target[to : to + count] = source[at : at + count], of contiguous arrays of a dtype; bounds are not checked."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first, second = (
            builder.gep(context.make_array(sig.args[i])(context, builder, args[i]).data, [args[i + 1]]) for i in (0, 2)
        )
        cgutils.raw_memcpy(builder, second, first, args[4], sig.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, types.intp), generate


@instruction
def accumulate(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + lanes] += vector, in the precision of the float64 array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = ir.VectorType(ir.DoubleType(), sig.args[2].lanes)
        pointer = builder.bitcast(element(context, builder, sig, args), wide.as_pointer())
        addend = args[2] if args[2].type == wide else builder.fpext(args[2], wide)
        builder.store(builder.fadd(builder.load(pointer, align=8), addend), pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@instruction
def spread(typingctx: Any, array: Any, value: Any) -> Any:
    """The number in all lanes of a vector of the dtype of `array`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _in_all_lanes(builder, context.get_value_type(sig.return_type), args[1])

    return Vector(array.dtype)(array, array.dtype), generate


@instruction
def spread_at(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index] in all lanes of a vector; bounds are not checked."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = builder.load(element(context, builder, sig, args))
        return _in_all_lanes(builder, context.get_value_type(sig.return_type), number)

    return Vector(array.dtype)(array, types.intp), generate


@instruction
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, in one instruction where the CPU has it."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(sig.return_type)
        kind = ir.FunctionType(vector, [vector] * 3)
        name = f"llvm.fmuladd.{_suffix(vector)}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return a(a, a, a), generate


@instruction
def non_negative(typingctx: Any, a: Any) -> Any:
    """0 where a < 0, else a; NaN stays NaN."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = context.get_constant_null(sig.return_type)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return a(a), generate


@instruction
def where_positive(typingctx: Any, condition: Any, a: Any) -> Any:
    """a where condition > 0, else 0 whatever a is."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = context.get_constant_null(sig.return_type)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], zero)

    return a(a, a), generate


@instruction
def absolute(typingctx: Any, a: Any) -> Any:
    """|a|."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _absolute(builder, args[0])

    return a(a), generate


@instruction
def absolute_some(typingctx: Any, a: Any, count: Any) -> Any:
    """|a| in the first `count` lanes, at most all of them, and zeros."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = args[0]
        mask = _first(builder, vector.type.count, args[1])
        return builder.select(mask, _absolute(builder, vector), ir.Constant(vector.type, None))

    return a(a, types.intp), generate


@instruction
def square_root(typingctx: Any, a: Any) -> Any:
    """sqrt(a)."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _unary(builder, "sqrt", args[0])

    return a(a), generate


@instruction
def greater(typingctx: Any, a: Any, b: Any) -> Any:
    """The greater of two vectors of numbers >= 0, lane by lane; NaN counts as greatest.

    Such numbers are ordered as their bits are, and NaN, of either sign, has greater ones.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = ir.VectorType(ir.IntType(sig.args[0].dtype.bitwidth), args[0].type.count)
        first, second = (builder.bitcast(value, bits) for value in args)
        greatest = builder.select(builder.icmp_unsigned(">", first, second), first, second)
        return builder.bitcast(greatest, args[0].type)

    return a(a, a), generate


@instruction
def negative(typingctx: Any, a: Any) -> Any:
    """-a, which costs nothing as an argument of `fma`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fneg(args[0])

    return a(a), generate


@instruction
def reciprocal(typingctx: Any, a: Any) -> Any:
    """1 / a for finite a; in float32 from the CPU's estimate and a Newton step where it has one, within 2 ulp."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one = ir.Constant(args[0].type, [1.0] * args[0].type.count)
        return builder.fdiv(one, args[0], flags=("arcp", "ninf"))  # without ninf LLVM divides

    return a(a), generate


def load_first(builder: Any, pointer: Any, vector: Any, count: Any) -> Any:
    """The first `count` lanes of a vector from there, and zeros; nothing beyond is touched."""
    address = builder.bitcast(pointer, vector.as_pointer())
    mask = _first(builder, vector.count, count)
    kind = ir.FunctionType(vector, [address.type, ir.IntType(32), mask.type, vector])
    name = f"llvm.masked.load.{_suffix(vector)}.p0"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [address, _alignment(vector), mask, ir.Constant(vector, None)])


def store_first(builder: Any, pointer: Any, vector: Any, count: Any) -> None:
    """Store the first `count` lanes there; nothing beyond is touched."""
    address = builder.bitcast(pointer, vector.type.as_pointer())
    mask = _first(builder, vector.type.count, count)
    kind = ir.FunctionType(ir.VoidType(), [vector.type, address.type, ir.IntType(32), mask.type])
    name = f"llvm.masked.store.{_suffix(vector.type)}.p0"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [vector, address, _alignment(vector.type), mask])


def _in_all_lanes(builder: Any, vector: Any, number: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, zeros)


def element(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Pointer to array[index], for args that begin with a contiguous array and an index."""
    data = context.make_array(sig.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]])


def _address(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The same as pointer to a vector."""
    vector = context.get_value_type(Vector(sig.args[0].dtype))
    return builder.bitcast(element(context, builder, sig, args), vector.as_pointer())


def _absolute(builder: Any, vector: Any) -> Any:
    return _unary(builder, "fabs", vector)


def _unary(builder: Any, name: str, vector: Any) -> Any:
    """LLVM's function of that name, lane by lane."""
    kind = ir.FunctionType(vector.type, [vector.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{_suffix(vector.type)}")
    return builder.call(function, [vector])


def _suffix(vector: Any) -> str:
    """LLVM's name of the vector type in names of intrinsics."""
    return f"v{vector.count}f{_element_bits(vector)}"


def _alignment(vector: Any) -> Any:
    return ir.Constant(ir.IntType(32), _element_bits(vector) // 8)


def _element_bits(vector: Any) -> int:
    return 32 if isinstance(vector.element, ir.FloatType) else 64


def _first(builder: Any, lanes: int, count: Any) -> Any:
    """A mask of the first `count` of `lanes` lanes."""
    vector = ir.VectorType(count.type, lanes)
    return builder.icmp_signed("<", ir.Constant(vector, list(range(lanes))), _in_all_lanes(builder, vector, count))
