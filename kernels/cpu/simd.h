/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vector of float32, the same names for every instruction set, so that a kernel is written
 * once and compiled for each (MTS_SIMD_AVX512, MTS_SIMD_AVX2, or neither: one lane of plain C).
 *
 * Every operation works lane by lane, and a multiply-add is fused only where v_fma says so: a
 * lane's bits depend on that lane's inputs alone. Short ends use the first n lanes of the same
 * operation (v_load_n, v_store_n); lanes past n read as 0 and are not stored, nor is the memory
 * behind them touched.
 *
 * Only for files compiled per instruction set: everything is static.
 */
#ifndef MTS_SIMD_H
#define MTS_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include "ops.h"

#define MTS_JOIN_(a, b) a##_##b
#define MTS_JOIN(a, b) MTS_JOIN_(a, b)

#define inline_always static inline __attribute__((always_inline))

/* arrays of vectors are registers only where the loops over them are gone */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(MTS_SIMD_AVX512)
#include <immintrin.h>

#define MTS_ISA_NAME avx512
#define VW 16
#define VREGS 32
typedef __m512 vf;

inline_always __mmask16 v_first(unsigned n)
{
	return (__mmask16)((1u << n) - 1);
}

inline_always vf v_set1(float x)
{
	return _mm512_set1_ps(x);
}

inline_always vf v_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

inline_always vf v_load_n(const float *p, unsigned n)
{
	return _mm512_maskz_loadu_ps(v_first(n), p);
}

inline_always vf v_load_bf16_n(const uint16_t *p, unsigned n)
{
	__m256i h = _mm256_maskz_loadu_epi16(v_first(n), p);

	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

inline_always void v_store(float *p, vf a)
{
	_mm512_storeu_ps(p, a);
}

inline_always void v_store_n(float *p, vf a, unsigned n)
{
	_mm512_mask_storeu_ps(p, v_first(n), a);
}

inline_always vf v_add(vf a, vf b)
{
	return _mm512_add_ps(a, b);
}

inline_always vf v_sub(vf a, vf b)
{
	return _mm512_sub_ps(a, b);
}

inline_always vf v_mul(vf a, vf b)
{
	return _mm512_mul_ps(a, b);
}

inline_always vf v_div(vf a, vf b)
{
	return _mm512_div_ps(a, b);
}

/* a * b + c */
inline_always vf v_fma(vf a, vf b, vf c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* c - a * b */
inline_always vf v_fnma(vf a, vf b, vf c)
{
	return _mm512_fnmadd_ps(a, b, c);
}

/* a NaN in x comes out again */
inline_always vf v_clamp(vf x, float lo, float hi)
{
	return _mm512_min_ps(v_set1(hi), _mm512_max_ps(v_set1(lo), x));
}

/* x with the lanes past n made 0 */
inline_always vf v_first_n(vf x, unsigned n)
{
	return _mm512_maskz_mov_ps(v_first(n), x);
}

/* 2^k, k being the integer in the low mantissa bits of t (see v_exp) */
inline_always vf v_pow2_bits(vf t)
{
	__m512i e = _mm512_slli_epi32(_mm512_castps_si512(t), 23);

	return _mm512_castsi512_ps(_mm512_add_epi32(e, _mm512_set1_epi32(0x3f800000)));
}

inline_always float v_sum(vf a)
{
	return _mm512_reduce_add_ps(a);
}

inline_always vf v_shuffle_halves(vf a, vf b, const int low)
{
	return low ? _mm512_shuffle_f32x4(a, b, 0x88) : _mm512_shuffle_f32x4(a, b, 0xdd);
}

/* r[i] lane j <-> r[j] lane i */
inline_always void v_transpose(vf r[VW])
{
	vf t[16], u[16];

	UNROLL
	for (int i = 0; i < 16; i += 2) {
		t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
	}
	UNROLL
	for (int i = 0; i < 16; i += 4) {
		u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
		u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
		u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
		u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
	}
	/* u[4b + c], 128-bit lane q: column 4q + c of rows 4b .. 4b + 3 */
	UNROLL
	for (int c = 0; c < 4; c++) {
		vf even01 = v_shuffle_halves(u[c], u[4 + c], 1);
		vf odd01 = v_shuffle_halves(u[c], u[4 + c], 0);
		vf even23 = v_shuffle_halves(u[8 + c], u[12 + c], 1);
		vf odd23 = v_shuffle_halves(u[8 + c], u[12 + c], 0);

		r[c] = v_shuffle_halves(even01, even23, 1);
		r[8 + c] = v_shuffle_halves(even01, even23, 0);
		r[4 + c] = v_shuffle_halves(odd01, odd23, 1);
		r[12 + c] = v_shuffle_halves(odd01, odd23, 0);
	}
}

#elif defined(MTS_SIMD_AVX2)
#include <immintrin.h>

#define MTS_ISA_NAME avx2
#define VW 8
#define VREGS 16
typedef __m256 vf;

inline_always __m256i v_first(unsigned n)
{
	const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

inline_always vf v_set1(float x)
{
	return _mm256_set1_ps(x);
}

inline_always vf v_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

inline_always vf v_load_n(const float *p, unsigned n)
{
	return n == VW ? v_load(p) : _mm256_maskload_ps(p, v_first(n));
}

inline_always vf v_load_bf16_n(const uint16_t *p, unsigned n)
{
	__m128i h = _mm_setzero_si128();

	if (n == VW)
		h = _mm_loadu_si128((const __m128i *)p);
	else
		memcpy(&h, p, 2 * n);
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

inline_always void v_store(float *p, vf a)
{
	_mm256_storeu_ps(p, a);
}

inline_always void v_store_n(float *p, vf a, unsigned n)
{
	if (n == VW)
		v_store(p, a);
	else
		_mm256_maskstore_ps(p, v_first(n), a);
}

inline_always vf v_add(vf a, vf b)
{
	return _mm256_add_ps(a, b);
}

inline_always vf v_sub(vf a, vf b)
{
	return _mm256_sub_ps(a, b);
}

inline_always vf v_mul(vf a, vf b)
{
	return _mm256_mul_ps(a, b);
}

inline_always vf v_div(vf a, vf b)
{
	return _mm256_div_ps(a, b);
}

inline_always vf v_fma(vf a, vf b, vf c)
{
	return _mm256_fmadd_ps(a, b, c);
}

inline_always vf v_fnma(vf a, vf b, vf c)
{
	return _mm256_fnmadd_ps(a, b, c);
}

inline_always vf v_clamp(vf x, float lo, float hi)
{
	return _mm256_min_ps(v_set1(hi), _mm256_max_ps(v_set1(lo), x));
}

inline_always vf v_first_n(vf x, unsigned n)
{
	return _mm256_and_ps(x, _mm256_castsi256_ps(v_first(n)));
}

inline_always vf v_pow2_bits(vf t)
{
	__m256i e = _mm256_slli_epi32(_mm256_castps_si256(t), 23);

	return _mm256_castsi256_ps(_mm256_add_epi32(e, _mm256_set1_epi32(0x3f800000)));
}

inline_always float v_sum(vf a)
{
	__m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

inline_always void v_transpose(vf r[VW])
{
	vf t[8], u[8];

	UNROLL
	for (int i = 0; i < 8; i += 2) {
		t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
		t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
	}
	UNROLL
	for (int i = 0; i < 8; i += 4) {
		u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
		u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
		u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
		u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
	}
	UNROLL
	for (int i = 0; i < 4; i++) {
		r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
		r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
	}
}

#else

#define MTS_ISA_NAME scalar
#define VW 1
#define VREGS 16
typedef float vf;

inline_always vf v_set1(float x)
{
	return x;
}

inline_always vf v_load(const float *p)
{
	return *p;
}

inline_always vf v_load_n(const float *p, unsigned n)
{
	return *p;
}

inline_always vf v_load_bf16_n(const uint16_t *p, unsigned n)
{
	uint32_t bits = (uint32_t)*p << 16;
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

inline_always void v_store(float *p, vf a)
{
	*p = a;
}

inline_always void v_store_n(float *p, vf a, unsigned n)
{
	*p = a;
}

inline_always vf v_add(vf a, vf b)
{
	return a + b;
}

inline_always vf v_sub(vf a, vf b)
{
	return a - b;
}

inline_always vf v_mul(vf a, vf b)
{
	return a * b;
}

inline_always vf v_div(vf a, vf b)
{
	return a / b;
}

/* Not fused: without the instruction fmaf() is a slow call. Rounded twice, but always so. */
inline_always vf v_fma(vf a, vf b, vf c)
{
	return a * b + c;
}

inline_always vf v_fnma(vf a, vf b, vf c)
{
	return c - a * b;
}

inline_always vf v_clamp(vf x, float lo, float hi)
{
	x = lo > x ? lo : x;
	return hi < x ? hi : x;
}

inline_always vf v_first_n(vf x, unsigned n)
{
	return x;
}

inline_always vf v_pow2_bits(vf t)
{
	uint32_t bits;

	memcpy(&bits, &t, sizeof(bits));
	bits = (bits << 23) + 0x3f800000;
	memcpy(&t, &bits, sizeof(t));
	return t;
}

inline_always float v_sum(vf a)
{
	return a;
}

inline_always void v_transpose(vf r[VW])
{
}

#endif

#define MTS_ISA(name) MTS_JOIN(name, MTS_ISA_NAME)

static inline unsigned v_min_u(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/*
 * e^x for x in [-87, 88] (the caller clamps), within 2 units in the last place: x = k ln 2 + r,
 * |r| <= ln 2 / 2, and a polynomial of degree 6 for e^r (Cephes' coefficients).
 */
inline_always vf v_exp(vf x)
{
	const float round_to_int = 12582912.0f; /* 1.5 * 2^23: leaves k in the low mantissa bits */
	vf t = v_fma(x, v_set1(1.44269504088896341f), v_set1(round_to_int));
	vf k = v_sub(t, v_set1(round_to_int));
	vf r = v_fnma(k, v_set1(0.693359375f), x);
	vf p = v_set1(1.9875691500e-4f);

	r = v_fnma(k, v_set1(-2.12194440e-4f), r);
	p = v_fma(p, r, v_set1(1.3981999507e-3f));
	p = v_fma(p, r, v_set1(8.3334519073e-3f));
	p = v_fma(p, r, v_set1(4.1665795894e-2f));
	p = v_fma(p, r, v_set1(1.6666665459e-1f));
	p = v_fma(p, r, v_set1(5.0000001201e-1f));
	p = v_fma(p, v_mul(r, r), r);
	return v_mul(v_add(p, v_set1(1.0f)), v_pow2_bits(t));
}

/* 1 + e^-x; the clamp changes x * 1/(1 + e^-x) by less than 1e-36 */
inline_always vf v_one_plus_exp_neg(vf x)
{
	return v_add(v_exp(v_clamp(v_sub(v_set1(0.0f), x), -87.0f, 88.0f)), v_set1(1.0f));
}

inline_always vf v_sigmoid(vf x)
{
	return v_div(v_set1(1.0f), v_one_plus_exp_neg(x));
}

/* x * scale * sigmoid(x) */
inline_always vf v_silu_scaled(vf x, vf scale)
{
	return v_div(v_mul(x, scale), v_one_plus_exp_neg(x));
}

inline_always vf v_silu(vf x)
{
	return v_div(x, v_one_plus_exp_neg(x));
}

#endif
