"""Images in memory, of any floating-point format, as kernels meet them: in float32 or float64.

numba has no arrays of half precision. The bits of float16 come to kernels as int16, those of bfloat16 as uint16; they
become float32 where they are read, and gradients are rounded, to the nearest and half to even, where they are written.
That is arithmetic of whole numbers here, as not every CPU has instructions for it. Images in the format in which a
kernel computes, that of the array `like`, are read and written as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numpy.typing import NDArray
from torch import Tensor

from ssimgen.engine.fused.vectors import Vector, element, instruction, load_first, store_first

_FLOAT, _BITS, _HALF = ir.FloatType(), ir.IntType(32), ir.IntType(16)
_BFLOAT16 = types.uint16
_INFINITY = 0xFF << 23  # bits of float32


def as_array(x: Tensor) -> NDArray[Any]:
    """The pixels of a contiguous tensor, flattened, as kernels take them, without a copy."""
    if x.dtype not in (torch.float16, torch.bfloat16):
        return x.view(-1).numpy()
    bits = x.view(-1).view(torch.int16).numpy()
    return bits if x.dtype == torch.float16 else bits.view(np.uint16)


@instruction
def read(typingctx: Any, image: Any, index: Any, like: Any) -> Any:
    """image[index]."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = builder.load(element(context, builder, sig, args))
        return number if image.dtype == like.dtype else _widened(builder, number, image.dtype)

    return like.dtype(image, types.intp, like), generate


@instruction
def read_some(typingctx: Any, image: Any, index: Any, count: Any, like: Any) -> Any:
    """The first `count` of image[index : index + lanes], at most all of them, and zeros; nothing beyond is touched."""
    vector = Vector(like.dtype)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = element(context, builder, sig, args)
        if image.dtype == like.dtype:
            return load_first(builder, address, context.get_value_type(vector), args[2])
        halves = ir.VectorType(_HALF, vector.lanes)
        room = cgutils.alloca_once(builder, halves)
        whole = builder.icmp_signed(">=", args[2], ir.Constant(args[2].type, vector.lanes))
        with builder.if_else(whole) as (all_of_them, some):
            with all_of_them:
                read_at_once = builder.load(builder.bitcast(address, halves.as_pointer()), align=2)
                first_block = builder.block
            with some:
                builder.store(ir.Constant(halves, None), room)
                cgutils.raw_memcpy(builder, room, address, args[2], 2)
                read_through_room = builder.load(room)
                second_block = builder.block
        bits = builder.phi(halves)
        bits.add_incoming(read_at_once, first_block)
        bits.add_incoming(read_through_room, second_block)
        return _widened(builder, bits, image.dtype)

    return vector(image, types.intp, types.intp, like), generate


@instruction
def write(typingctx: Any, image: Any, index: Any, number: Any) -> Any:
    """image[index] = a number, or image[index : index + lanes] = a vector."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = args[2] if _is_wide(image) else _narrowed(builder, args[2], image.dtype)
        address = builder.bitcast(element(context, builder, sig, args), value.type.as_pointer())
        builder.store(value, address, align=image.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(image, types.intp, number), generate


@instruction
def write_some(typingctx: Any, image: Any, index: Any, vector: Any, count: Any) -> Any:
    """The same of the first `count` lanes, fewer than all; nothing beyond is touched."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = element(context, builder, sig, args)
        if _is_wide(image):
            store_first(builder, address, args[2], args[3])
        else:
            halves = _narrowed(builder, args[2], image.dtype)
            room = cgutils.alloca_once(builder, halves.type)
            builder.store(halves, room)
            cgutils.raw_memcpy(builder, address, room, args[3], 2)
        return context.get_dummy_value()

    return types.void(image, types.intp, vector, types.intp), generate


def _is_wide(image: Any) -> bool:
    return isinstance(image.dtype, types.Float)


def _widened(builder: Any, halves: Any, dtype: Any) -> Any:
    """float32 of half precision, a number or a vector."""
    like = halves.type
    bits = builder.zext(halves, _of(like, _BITS))
    if dtype == _BFLOAT16:
        return builder.bitcast(builder.shl(bits, _all(like, 16)), _of(like, _FLOAT))
    sign = builder.shl(builder.and_(bits, _all(like, 0x8000)), _all(like, 16))
    rest = builder.shl(builder.and_(bits, _all(like, 0x7FFF)), _all(like, 13))
    normal = builder.add(rest, _all(like, (127 - 15) << 23))  # the exponent, which counts from another number
    without_end = builder.add(normal, _all(like, (127 - 15) << 23))
    least = _all(like, (127 - 14) << 23)  # of normal numbers; what is below has no leading 1
    number = builder.fsub(*(builder.bitcast(z, _of(like, _FLOAT)) for z in (builder.add(rest, least), least)))
    subnormal = builder.bitcast(number, _of(like, _BITS))
    bits = builder.select(builder.icmp_unsigned("<", rest, _all(like, 1 << 23)), subnormal, normal)
    bits = builder.select(builder.icmp_unsigned(">=", rest, _all(like, 31 << 23)), without_end, bits)
    return builder.bitcast(builder.or_(bits, sign), _of(like, _FLOAT))


def _narrowed(builder: Any, numbers: Any, dtype: Any) -> Any:
    """Half precision of float32, a number or a vector, rounded to the nearest, half to even."""
    like = numbers.type
    bits = builder.bitcast(numbers, _of(like, _BITS))
    rest = builder.and_(bits, _all(like, 0x7FFFFFFF))
    sign = builder.lshr(builder.xor(bits, rest), _all(like, 16))
    is_nan = builder.icmp_unsigned(">", rest, _all(like, _INFINITY))

    def rounded(bits: Any, dropped: int) -> Any:
        odd = builder.and_(builder.lshr(bits, _all(like, dropped)), _all(like, 1))
        raised = builder.add(builder.add(bits, _all(like, (1 << dropped - 1) - 1)), odd)
        return builder.lshr(raised, _all(like, dropped))

    if dtype == _BFLOAT16:
        half, nan = rounded(rest, 16), 0x7FC0
    else:
        half, nan = rounded(builder.sub(rest, _all(like, (127 - 15) << 23)), 13), 0x7E00
        # Added to this, a number has its last digit where subnormal numbers of float16 have theirs.
        magic = _all(like, (127 - 15 + 23 - 10 + 1) << 23)
        total = builder.fadd(*(builder.bitcast(z, _of(like, _FLOAT)) for z in (rest, magic)))
        subnormal = builder.sub(builder.bitcast(total, _of(like, _BITS)), magic)
        half = builder.select(builder.icmp_unsigned("<", rest, _all(like, (127 - 14) << 23)), subnormal, half)
        half = builder.select(builder.icmp_unsigned(">=", rest, _all(like, (127 + 16) << 23)), _all(like, 0x7C00), half)
    half = builder.select(is_nan, _all(like, nan), half)
    return builder.trunc(builder.or_(half, sign), _of(like, _HALF))


def _of(like: Any, scalar: Any) -> Any:
    """A scalar type, or the type of as many as `like` has."""
    return ir.VectorType(scalar, like.count) if isinstance(like, ir.VectorType) else scalar


def _all(like: Any, bits: int) -> Any:
    """The same 32 bits in each lane of the type `like`."""
    kind = _of(like, _BITS)
    return ir.Constant(kind, [bits] * like.count if kind is not _BITS else bits)
