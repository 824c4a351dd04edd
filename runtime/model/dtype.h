/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversions between float32 and the two-byte types, rounding to nearest, ties to even; exact in
 * the other direction. Integer arithmetic on the bits, so that every machine gives the same result
 * whatever instructions it has.
 *
 * Floor: model. Pure functions: any thread. NaN stays NaN (quiet), overflow becomes infinity.
 */
#ifndef MTS_MODEL_DTYPE_H
#define MTS_MODEL_DTYPE_H

#include <stdint.h>
#include <string.h>

static inline uint32_t mts_f32_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return u;
}

static inline float mts_f32_from_bits(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static inline float mts_bf16_to_f32(uint16_t h)
{
	return mts_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t mts_f32_to_bf16(float f)
{
	uint32_t u = mts_f32_bits(f);

	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float mts_f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exponent = h >> 10 & 0x1f;
	uint32_t fraction = h & 0x3ff;

	if (exponent == 0x1f)
		return mts_f32_from_bits(sign | 0x7f800000 | fraction << 13);
	if (exponent == 0) {
		float subnormal = (float)fraction * 0x1p-24f;

		return sign ? -subnormal : subnormal;
	}
	return mts_f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* value >> shift, rounded to nearest, ties to even; shift 1..31 */
static inline uint32_t mts_shift_even(uint32_t value, unsigned shift)
{
	uint32_t half = (1u << (shift - 1)) - 1;

	return (value + half + (value >> shift & 1)) >> shift;
}

static inline uint16_t mts_f32_to_f16(float f)
{
	uint32_t u = mts_f32_bits(f);
	uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
	uint32_t magnitude = u & 0x7fffffff;
	uint32_t exponent = magnitude >> 23;
	uint32_t fraction = (magnitude & 0x7fffff) | 0x800000;

	if (magnitude > 0x7f800000)
		return sign | 0x7e00;
	if (exponent >= 143)
		return sign | 0x7c00;
	if (exponent < 102)
		return sign;
	if (exponent < 113)
		return (uint16_t)(sign | mts_shift_even(fraction, 126 - exponent));
	/* a carry out of the fraction moves on into the exponent, up to infinity */
	return (uint16_t)(sign | mts_shift_even(magnitude - (112u << 23), 13));
}

#endif
