"""Attention of a few queries over few tokens, in one kernel of our own: what a decoder's step computes for each head.

Fused attentions are made for many queries: at two a head the fastest takes 30 us a call for 64 regions on an H200,
this one 16 (M = 64, d = 64, 32 heads; reading keys and values takes 8). A block of 128 threads has one head of one
region: every thread reads its parts of the keys and values at once, then scores, softmax and sums stay in registers and
shared memory, in float32.

Shapes as in `attention.py`: R = regions, B = queries of a region, M = tokens, d = channels of a head.
"""

from typing import Any

import torch
from torch import Tensor

from dynrefer.model.networks.kernels.nvrtc import Kernel, KernelError, library

WIDTH = 64  # d: eight threads read a token, sixteen bytes each
MOST_QUERIES, MOST_ROUNDS = 4, 8  # of a region; of 16 tokens: what a thread's registers hold
_THREADS, _TOKENS_A_ROUND = 128, 16

SOURCE = """
typedef unsigned short bf16;
#define TOKENS (ROUNDS * 16)
#define MINUS_INFINITY __int_as_float(0xff800000)

__device__ __forceinline__ float wide(unsigned bits) { return __uint_as_float(bits << 16); }

__device__ __forceinline__ bf16 narrow(float value) {  // to the nearest, ties to even; NaN stays NaN
    unsigned bits = __float_as_uint(value);
    if (value != value) return 0x7fff;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

__device__ __forceinline__ void eight(const uint4 &from, float *to) {
    const unsigned *pairs = (const unsigned *)&from;
#pragma unroll
    for (int i = 0; i < 4; ++i) { to[2 * i] = wide(pairs[i] & 0xffff); to[2 * i + 1] = wide(pairs[i] >> 16); }
}

extern "C" __global__ void __launch_bounds__(128) small_attention(
    const bf16 *query, const bf16 *keys, const bf16 *values, const bf16 *bias, bf16 *out, int heads, int tokens,
    int query_region, int query_head, int query_row, int keys_region, int keys_head, int keys_token,
    int values_region, int values_head, int values_token, int bias_region, int bias_head, int bias_row, int bias_token)
{
    __shared__ float scores[QUERIES][TOKENS];
    __shared__ float sums[4][QUERIES][64];
    const long long region = blockIdx.x / heads, head = blockIdx.x % heads;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 8, part = lane % 8;
    query += region * query_region + head * query_head + part * 8;
    keys += region * keys_region + head * keys_head + part * 8;
    values += region * values_region + head * values_head + part * 8;
    bias += region * bias_region + head * bias_head;

    uint4 of_key[ROUNDS], of_value[ROUNDS];
    const uint4 zero = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const long long token = round * 16 + warp * 4 + group;
        of_key[round] = token < tokens ? *(const uint4 *)(keys + token * keys_token) : zero;
    }
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const long long token = round * 16 + warp * 4 + group;
        of_value[round] = token < tokens ? *(const uint4 *)(values + token * values_token) : zero;
    }
    float asked[QUERIES][8];
#pragma unroll
    for (int row = 0; row < QUERIES; ++row) eight(*(const uint4 *)(query + row * (long long)query_row), asked[row]);

#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
        const int token = round * 16 + warp * 4 + group;
        float key[8];
        eight(of_key[round], key);
#pragma unroll
        for (int row = 0; row < QUERIES; ++row) {
            float product = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; ++i) product += asked[row][i] * key[i];
#pragma unroll
            for (int apart = 4; apart; apart /= 2) product += __shfl_xor_sync(0xffffffff, product, apart);
            if (part == 0)
                scores[row][token] = token < tokens
                    ? product + wide(bias[row * (long long)bias_row + token * (long long)bias_token]) : MINUS_INFINITY;
        }
    }
    __syncthreads();

    float found[QUERIES][8], total[QUERIES];
#pragma unroll
    for (int row = 0; row < QUERIES; ++row) {
        float most = MINUS_INFINITY;
        for (int token = lane; token < TOKENS; token += 32) most = fmaxf(most, scores[row][token]);
#pragma unroll
        for (int apart = 16; apart; apart /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, apart));
        if (most == MINUS_INFINITY) most = 0.0f;  // all masked: zero over zero, NaN as elsewhere
        float sum = 0.0f;
        for (int token = lane; token < TOKENS; token += 32) sum += expf(scores[row][token] - most);
#pragma unroll
        for (int apart = 16; apart; apart /= 2) sum += __shfl_xor_sync(0xffffffff, sum, apart);
        total[row] = sum;
#pragma unroll
        for (int i = 0; i < 8; ++i) found[row][i] = 0.0f;
#pragma unroll
        for (int round = 0; round < ROUNDS; ++round) {
            const float share = expf(scores[row][round * 16 + warp * 4 + group] - most);
            float value[8];
            eight(of_value[round], value);
#pragma unroll
            for (int i = 0; i < 8; ++i) found[row][i] += share * value[i];
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            found[row][i] += __shfl_xor_sync(0xffffffff, found[row][i], 8);
            found[row][i] += __shfl_xor_sync(0xffffffff, found[row][i], 16);
        }
        if (group == 0) {
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[warp][row][part * 8 + i] = found[row][i] / total[row];
        }
    }
    __syncthreads();

    // (R, B, heads, d)
    for (int place = threadIdx.x; place < QUERIES * 64; place += 128) {
        const int row = place / 64, channel = place % 64;
        float whole = 0.0f;
#pragma unroll
        for (int each = 0; each < 4; ++each) whole += sums[each][row][channel];
        out[((region * QUERIES + row) * heads + head) * 64 + channel] = narrow(whole);
    }
}
"""


class SmallAttention:
    """An `Attention` of bfloat16 on a GPU. A call raises `KernelError`, a RuntimeError, for what it does not take.

    A kernel is compiled for each number of queries and each 16 tokens, at the first call that needs it.
    """

    def __init__(self) -> None:
        self._kernels: dict[tuple[int, int], Kernel] = {}
        self._lib: Any = None

    def __call__(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """As `attention.torchs_choice`. In memory a region's queries are one behind the other, heads inside."""
        regions, heads, queries, width = query.shape
        tokens = keys.shape[2]
        rounds = -(-tokens // _TOKENS_A_ROUND)
        all_given = (query, keys, values, bias)
        if width != WIDTH or not 1 <= queries <= MOST_QUERIES or not 1 <= rounds <= MOST_ROUNDS:
            raise KernelError(f"{queries} queries of {width} channels over {tokens} tokens are none of its sizes.")
        if any(each.dtype != torch.bfloat16 or each.device.type != "cuda" for each in all_given):
            raise KernelError("it is for bfloat16 on a GPU.")
        if not all(map(_in_sixteens, all_given[:3])):
            raise KernelError("a token's channels do not lie as sixteen bytes are read.")
        spread = bias.expand(regions, heads, queries, tokens)
        found = torch.empty((regions, queries, heads, width), dtype=query.dtype, device=query.device)
        steps = [each.stride(axis) for each in (query, keys, values) for axis in (0, 1, 2)]
        arguments: list[Tensor | int] = [query, keys, values, spread, found, heads, tokens, *steps, *spread.stride()]
        self._kernel(queries, rounds)(regions * heads, _THREADS, arguments)
        return found.transpose(1, 2)

    def _kernel(self, queries: int, rounds: int) -> Kernel:
        if (queries, rounds) not in self._kernels:
            self._lib = self._lib or library()
            defined = {"QUERIES": queries, "ROUNDS": rounds}
            self._kernels[queries, rounds] = Kernel(SOURCE, "small_attention", defined, self._lib)
        return self._kernels[queries, rounds]


def _in_sixteens(values: Tensor) -> bool:
    """Whether the channels lie side by side, from an address on that sixteen bytes are read at."""
    alone = values.stride(-1) == 1 and not any(step % 8 for step in values.stride()[:-1])
    return alone and values.data_ptr() % 16 == 0
