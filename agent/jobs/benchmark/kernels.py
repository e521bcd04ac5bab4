"""The GPU programs of the benchmark, as PTX: the driver compiles them for whatever GPU there is.

PTX 5.0 for compute capability 5.0 (Maxwell, 2014): every driver that knows a GPU since then takes it.
Source of the instruction set: NVIDIA, "Parallel Thread Execution ISA".
"""

import struct
from typing import Final

THREADS: Final = 256
"""In a block, of every kernel here."""

COPY_TILE_BYTES: Final = THREADS * 16
"""What one block of ``copy`` copies: 16 bytes a thread, the widest load there is."""

CHAINS: Final = 16
"""Independent sums of each thread of ``multiply_add``: enough that none waits for the one before."""

UNROLLED: Final = 32
"""Steps of each chain before the loop's own instructions, so that these cost little."""

FACTOR: Final = 1 - 2**-12
TERM: Final = 2**-6
"""Each step is x ← x × FACTOR + TERM, exact in float32 as constants; it tends to 64."""


def source() -> str:
    """Give the module: kernels ``fill``, ``copy`` and ``multiply_add``."""
    return f".version 5.0\n.target sm_50\n.address_size 64\n{_FILL}{_COPY}{_multiply_add()}"


# fill(out, seed): word i of out, one a thread, becomes i × 2654435761 xor seed.
_FILL: Final = """
.visible .entry fill(.param .u64 out, .param .u32 seed)
{
    .reg .b32 %r<7>;
    .reg .b64 %d<4>;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.u32 %r4, %r1, %r2, %r3;
    mul.lo.u32 %r5, %r4, 2654435761;
    ld.param.u32 %r6, [seed];
    xor.b32 %r5, %r5, %r6;
    ld.param.u64 %d1, [out];
    cvta.to.global.u64 %d1, %d1;
    mul.wide.u32 %d2, %r4, 4;
    add.u64 %d3, %d1, %d2;
    st.global.u32 [%d3], %r5;
    ret;
}
"""


# copy(from, to): 16 bytes a thread, marked as not to be used again soon.
_COPY: Final = """
.visible .entry copy(.param .u64 from, .param .u64 to)
{
    .reg .b32 %r<8>;
    .reg .b64 %d<4>;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.u32 %r3, %r1, %r2, %r3;
    mul.wide.u32 %d3, %r3, 16;
    ld.param.u64 %d1, [from];
    ld.param.u64 %d2, [to];
    cvta.to.global.u64 %d1, %d1;
    cvta.to.global.u64 %d2, %d2;
    add.u64 %d1, %d1, %d3;
    add.u64 %d2, %d2, %d3;
    ld.global.cs.v4.u32 {%r4, %r5, %r6, %r7}, [%d1];
    st.global.cs.v4.u32 [%d2], {%r4, %r5, %r6, %r7};
    ret;
}
"""


def _multiply_add() -> str:
    """multiply_add(out, factor, term, rounds): CHAINS sums a thread, each rounds × UNROLLED steps long.

    Chain c of thread t begins with 1 + c + CHAINS × (t mod 2), and ends up in word t × CHAINS + c of out.
    """
    begin = "\n".join(f"    add.f32 %x{c}, %f3, 0f{_bits(1.0 + c)};" for c in range(CHAINS))
    step = "\n".join(f"    fma.rn.f32 %x{c}, %x{c}, %f1, %f2;" for c in range(CHAINS))
    steps = "\n".join([step] * UNROLLED)
    end = "\n".join(
        f"    st.global.v4.f32 [%d1+{4 * c}], {{{', '.join(f'%x{c + word}' for word in range(4))}}};"
        for c in range(0, CHAINS, 4)
    )
    return f"""
.visible .entry multiply_add(.param .u64 out, .param .f32 factor, .param .f32 term, .param .u32 rounds)
{{
    .reg .pred %more;
    .reg .b32 %r<7>;
    .reg .b64 %d<3>;
    .reg .f32 %f<4>;
    .reg .f32 %x<{CHAINS}>;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.u32 %r4, %r1, %r2, %r3;
    and.b32 %r5, %r4, 1;
    mul.lo.u32 %r5, %r5, {CHAINS};
    cvt.rn.f32.u32 %f3, %r5;
{begin}
    ld.param.f32 %f1, [factor];
    ld.param.f32 %f2, [term];
    ld.param.u32 %r6, [rounds];
again:
{steps}
    sub.u32 %r6, %r6, 1;
    setp.ne.u32 %more, %r6, 0;
    @%more bra again;
    ld.param.u64 %d1, [out];
    cvta.to.global.u64 %d1, %d1;
    mul.wide.u32 %d2, %r4, {4 * CHAINS};
    add.u64 %d1, %d1, %d2;
{end}
    ret;
}}
"""


def _bits(value: float) -> str:
    """A float32 as PTX writes one: the hexadecimal digits of its bits."""
    return struct.pack(">f", value).hex().upper()
