"""Separable filters of vectors, written out by code generation so that they run from registers.

A loop over taps loads every sample once per tap. Here one sample is loaded once, multiplied into all the outputs
that it belongs to, and forgotten; size, stride and count are compile-time constants, so nothing is left of the
loops. Indices count elements of contiguous arrays; bounds are not checked.

In kernels for windows of every size, where size, stride and count are numbers of the call, the same filters are loops.
Each result is the same sum in the same order, and so the same to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, no_type_check

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ssimgen.engine.fused.vectors import Vector, clear, fma, instruction, lanes, load, spread_at, store


class _Code:
    """Emits vector instructions; offsets of vectors count vectors."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.context, self.builder = context, builder
        self.lanes = Vector(dtype).lanes
        self.vector = context.get_value_type(Vector(dtype))
        self.alignment = dtype.bitwidth // 8

    def pointer(self, array_type: Any, array: Any, index: Any) -> Any:
        return self.builder.gep(self.context.make_array(array_type)(self.context, self.builder, array).data, [index])

    def _element(self, pointer: Any, offset: int) -> Any:
        return self.builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)])

    def _vector_at(self, pointer: Any, offset: int) -> Any:
        return self.builder.bitcast(self._element(pointer, offset * self.lanes), self.vector.as_pointer())

    def scalar(self, pointer: Any, offset: int) -> Any:
        return self.builder.load(self._element(pointer, offset))

    def load(self, pointer: Any, offset: int) -> Any:
        return self.builder.load(self._vector_at(pointer, offset), align=self.alignment)

    def store(self, value: Any, pointer: Any, offset: int) -> None:
        self.builder.store(value, self._vector_at(pointer, offset), align=self.alignment)

    def spread(self, scalar: Any) -> Any:
        """The scalar in all lanes."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        return self._shuffle(first, undefined, [0] * self.lanes)

    def _shuffle(self, a: Any, b: Any, order: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))

    def moved(self, vector: Any, lanes: int) -> Any:
        """The vector with its lanes so many places further down; what comes into the upper ones does not count."""
        return self._shuffle(vector, vector, [min(i + lanes, self.lanes - 1) for i in range(self.lanes)])

    def multiply_add(self, a: Any, b: Any, c: Any | None) -> Any:
        """a b + c, in one instruction where the CPU has it; c = None is zero."""
        if c is None:
            return self.builder.fmul(a, b)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        bits = "f32" if isinstance(self.vector.element, ir.FloatType) else "f64"
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.v{self.lanes}{bits}")
        return self.builder.call(function, (a, b, c))

    def sums_over_lanes(self, vectors: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """(start, sums): lane i of sums is the sum over the lanes of vectors[start + i]; None is a vector of zeros.

        Vectors are folded in pairs as they come: a fold adds the halves of both and lays the sums side by side,
        until one vector holds all sums in order.
        """
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        start = 0
        folded: list[tuple[int, Any]] = []  # (lanes that still belong to one sum, vector)
        for count, vector in enumerate(vectors, 1):
            self._fold(folded, vector or zero)
            if count - start == self.lanes:
                yield start, folded.pop()[1]
                start = count
        if folded:
            for _ in range(start + self.lanes - count):
                self._fold(folded, zero)
            sums = folded.pop()[1]
            yield start, self._shuffle(sums, sums, list(range(count - start)))

    def _fold(self, folded: list[tuple[int, Any]], vector: Any) -> None:
        folded.append((self.lanes, vector))
        while len(folded) > 1 and folded[-1][0] == folded[-2][0]:
            (width, b), (_, a) = folded.pop(), folded.pop()
            width //= 2
            lower = [i for i in range(2 * self.lanes) if i // width % 2 == 0]
            upper = [i for i in range(2 * self.lanes) if i // width % 2 == 1]
            folded.append((width, self.builder.fadd(self._shuffle(a, b, lower), self._shuffle(a, b, upper))))

    def add_to(self, pointer: Any, offset: int, value: Any) -> None:
        """Add a vector of any length to the numbers from `offset` on."""
        to = self.builder.bitcast(self._element(pointer, offset), value.type.as_pointer())
        self.builder.store(
            self.builder.fadd(self.builder.load(to, align=self.alignment), value), to, align=self.alignment
        )


def _filtered(
    code: _Code, sample: Callable[[int], Any], taps: list[Any], count: int, stride: int
) -> Iterator[tuple[int, Any]]:
    """(q, sum_k taps[k] sample(q stride + k)) for q < count, each as soon as it is complete."""
    sums: dict[int, Any] = {}
    for at in range((count - 1) * stride + len(taps)):
        outputs = [q for q in range(count) if 0 <= at - q * stride < len(taps)]
        if outputs:
            value = sample(at)
        for q in outputs:
            tap = at - q * stride
            sums[q] = code.multiply_add(value, taps[tap], sums.get(q))
            if tap == len(taps) - 1:
                yield q, sums.pop(q)


def _spread_out(
    code: _Code,
    sample: Callable[[int], Any],
    taps: list[Any],
    count: int,
    stride: int,
    begin: Callable[[int], Any] = lambda at: None,
) -> Iterator[tuple[int, Any]]:
    """The transpose: (at, begin(at) + sum_q taps[at - q stride] sample(q)), each as soon as it is complete.

    Indices that no tap reaches are left out; begin(at) = None is zero.
    """
    sums: dict[int, Any] = {}
    for q in range(count):
        value = sample(q)
        for k, tap in enumerate(taps):
            at = q * stride + k
            sums[at] = code.multiply_add(value, tap, sums[at] if at in sums else begin(at))
        complete = (q + 1) * stride if q + 1 < count else (count - 1) * stride + len(taps)
        for at in sorted(at for at in sums if at < complete):
            yield at, sums.pop(at)


def _prepared(context: Any, builder: Any, sig: Any, args: Any, taps: int, size: int) -> tuple[_Code, list[Any]]:
    """The code emitter and the taps, argument number `taps`, each in all lanes."""
    code = _Code(context, builder, sig.args[taps].dtype)
    of_taps = code.pointer(sig.args[taps], args[taps], ir.Constant(ir.IntType(64), 0))
    return code, [code.spread(code.scalar(of_taps, k)) for k in range(size)]


def _is_known(size: Any) -> bool:
    """Whether a kernel is compiled for windows of this size alone."""
    return isinstance(size, types.Literal)


def _in_loops(loops: Callable[..., None], context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Compile a call of what is written with loops."""
    return context.compile_internal(builder, loops, types.void(*map(types.unliteral, sig.args)), args)


@instruction
def _sum_of_lanes(typingctx: Any, vectors: Any, vector: Any) -> Any:
    """The sum over the lanes of a vector, of as many as `vectors` has, in the order of `_Code.sums_over_lanes`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code, total = _Code(context, builder, sig.args[0].dtype), args[1]
        width = code.lanes
        while width > 1:
            width //= 2
            total = builder.fadd(total, code.moved(total, width))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return vectors.dtype(vectors, vector), generate


@no_type_check
def _differences_in_loops(x, at_x, y, at_y, taps, out, at_out, size, stride, count):
    for q in range(count):
        difference = spread_at(x, at_x + q * stride) - load(y, at_y + q * stride * lanes(y))
        total = difference * difference * spread_at(taps, 0)
        for k in range(1, size):
            at = q * stride + k
            difference = spread_at(x, at_x + at) - load(y, at_y + at * lanes(y))
            total = fma(difference * difference, spread_at(taps, k), total)
        store(out, at_out + q * lanes(y), total)


@no_type_check
def _column_in_loops(strip, at_strip, taps, out, size, stride, pitch, count):
    apart = pitch * lanes(strip)
    for p in range(count):
        at = at_strip + p * stride * apart
        total = load(strip, at) * spread_at(taps, 0)
        for k in range(1, size):
            total = fma(load(strip, at + k * apart), spread_at(taps, k), total)
        store(out, p * lanes(strip), total)


@no_type_check
def _spread_column_in_loops(values, taps, strip, at_strip, size, stride, pitch, count):
    apart = pitch * lanes(strip)
    for p in range(count):
        value, at = load(values, p * lanes(strip)), at_strip + p * stride * apart
        for k in range(size):
            store(strip, at + k * apart, fma(value, spread_at(taps, k), load(strip, at + k * apart)))


@no_type_check
def _products_in_loops(
    values, at_values, x, at_x, y, at_y, taps, gradient_x, gradient_y, size, stride, count, both
):  # fmt: skip
    step = lanes(y)
    for at in range((count - 1) * stride + size):
        first, last = max(0, (at - size) // stride + 1), min(count - 1, at // stride)
        if first <= last:
            z = load(values, at_values + first * step) * spread_at(taps, at - first * stride)
            for q in range(first + 1, last + 1):
                z = fma(load(values, at_values + q * step), spread_at(taps, at - q * stride), z)
            here = at_y + at * step
            store(gradient_y, here, fma(spread_at(x, at_x + at), z, load(gradient_y, here)))
            if both:
                gradient_x[at_x + at] += _sum_of_lanes(y, load(y, here) * z)
    clear(values, at_values, count * step)


@no_type_check
def _sums_over_lanes_in_loops(vectors, out, at_out, count):
    for i in range(count):
        out[at_out + i] += _sum_of_lanes(vectors, load(vectors, i * lanes(vectors)))


@intrinsic(prefer_literal=True)
def filter_differences(
    typingctx: Any,
    x: Any,
    at_x: Any,
    y: Any,
    at_y: Any,
    taps: Any,
    out: Any,
    at_out: Any,
    size: Any,
    stride: Any,
    count: Any,
) -> Any:
    """out[q] = sum_k taps[k] (x - y)[q stride + k]^2, q < count: x are numbers, y and out vectors."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not _is_known(size):
            return _in_loops(_differences_in_loops, context, builder, sig, args)
        code, weights = _prepared(context, builder, sig, args, 4, size.literal_value)
        of_x, of_y, of_out = (code.pointer(sig.args[i], args[i], args[i + 1]) for i in (0, 2, 5))

        def square(at: int) -> Any:
            difference = builder.fsub(code.spread(code.scalar(of_x, at)), code.load(of_y, at))
            return builder.fmul(difference, difference)

        for q, value in _filtered(code, square, weights, count.literal_value, stride.literal_value):
            code.store(value, of_out, q)
        return context.get_dummy_value()

    return types.void(x, types.intp, y, types.intp, taps, out, types.intp, size, stride, count), generate


@intrinsic(prefer_literal=True)
def filter_column(
    typingctx: Any, strip: Any, at_strip: Any, taps: Any, out: Any, size: Any, stride: Any, pitch: Any, count: Any
) -> Any:
    """out[p] = sum_k taps[k] strip[p stride + k], p < count, of vectors; rows of the strip are `pitch` vectors."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not _is_known(size):
            return _in_loops(_column_in_loops, context, builder, sig, args)
        code, weights = _prepared(context, builder, sig, args, 2, size.literal_value)
        of_strip = code.pointer(sig.args[0], args[0], args[1])
        of_out = code.pointer(sig.args[3], args[3], ir.Constant(ir.IntType(64), 0))

        def sample(row: int) -> Any:
            return code.load(of_strip, row * pitch.literal_value)

        for p, value in _filtered(code, sample, weights, count.literal_value, stride.literal_value):
            code.store(value, of_out, p)
        return context.get_dummy_value()

    return types.void(strip, types.intp, taps, out, size, stride, pitch, count), generate


@intrinsic(prefer_literal=True)
def spread_column(
    typingctx: Any, values: Any, taps: Any, strip: Any, at_strip: Any, size: Any, stride: Any, pitch: Any, count: Any
) -> Any:
    """strip[p stride + k] += taps[k] values[p], p < count: the transpose of `filter_column`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not _is_known(size):
            return _in_loops(_spread_column_in_loops, context, builder, sig, args)
        code, weights = _prepared(context, builder, sig, args, 1, size.literal_value)
        of_values = code.pointer(sig.args[0], args[0], ir.Constant(ir.IntType(64), 0))
        of_strip = code.pointer(sig.args[2], args[2], args[3])

        def sample(p: int) -> Any:
            return code.load(of_values, p)

        def begin(row: int) -> Any:
            return code.load(of_strip, row * pitch.literal_value)

        for row, value in _spread_out(code, sample, weights, count.literal_value, stride.literal_value, begin):
            code.store(value, of_strip, row * pitch.literal_value)
        return context.get_dummy_value()

    return types.void(values, taps, strip, types.intp, size, stride, pitch, count), generate


@intrinsic(prefer_literal=True)
def spread_products(
    typingctx: Any,
    values: Any,
    at_values: Any,
    x: Any,
    at_x: Any,
    y: Any,
    at_y: Any,
    taps: Any,
    gradient_x: Any,
    gradient_y: Any,
    size: Any,
    stride: Any,
    count: Any,
    both: Any,
) -> Any:
    """The transpose of a filter of products x y: with z[q stride + k] += taps[k] values[q], q < count, that is

    gradient_y += x z, and if `both`, gradient_x += sum over lanes of y z; the values are zero afterwards. Gradients
    have the indices of x and y.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not _is_known(size):
            return _in_loops(_products_in_loops, context, builder, sig, args)
        code, weights = _prepared(context, builder, sig, args, 6, size.literal_value)
        of_values, of_x, of_y = (code.pointer(sig.args[i], args[i], args[i + 1]) for i in (0, 2, 4))
        of_gradient_x = code.pointer(sig.args[7], args[7], args[3])
        of_gradient_y = code.pointer(sig.args[8], args[8], args[5])

        zero = context.get_constant_null(Vector(sig.args[0].dtype))

        def sample(q: int) -> Any:
            value = code.load(of_values, q)
            code.store(zero, of_values, q)
            return value

        def products() -> Iterator[Any]:
            """y z of all pixels, in order, and gradient_y on the way."""
            reached = 0
            for at, z in _spread_out(code, sample, weights, count.literal_value, stride.literal_value):
                to_y = code.multiply_add(code.spread(code.scalar(of_x, at)), z, code.load(of_gradient_y, at))
                code.store(to_y, of_gradient_y, at)
                yield from [None] * (at - reached)
                yield builder.fmul(code.load(of_y, at), z)
                reached = at + 1

        if both.literal_value:
            for start, sums in code.sums_over_lanes(products()):
                code.add_to(of_gradient_x, start, sums)
        else:
            deque(products(), maxlen=0)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(values, intp, x, intp, y, intp, taps, gradient_x, gradient_y, size, stride, count, both), generate


@intrinsic(prefer_literal=True)
def add_sums_over_lanes(typingctx: Any, vectors: Any, out: Any, at_out: Any, count: Any) -> Any:
    """out[i] += sum over the lanes of vectors[i], i < count."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not _is_known(count):
            return _in_loops(_sums_over_lanes_in_loops, context, builder, sig, args)
        code = _Code(context, builder, sig.args[0].dtype)
        of_vectors = code.pointer(sig.args[0], args[0], ir.Constant(ir.IntType(64), 0))
        of_out = code.pointer(sig.args[1], args[1], args[2])
        for start, sums in code.sums_over_lanes(code.load(of_vectors, i) for i in range(count.literal_value)):
            code.add_to(of_out, start, sums)
        return context.get_dummy_value()

    return types.void(vectors, out, types.intp, count), generate
