/* vec_impl.h - what is made of registers of any width in one way: exponentials, and sums and
 * largest values across lanes.  For the end of vec_*.h, which define the rest: LANES floats of the
 * register `vec` vec_load, vec_store         aligned; vec_all: one float in every lane
 *   vec_load_part, vec_store_part   the first n <= LANES floats, anywhere; zeros behind, or left
 * alone vec_load_or(p, n, x)        the same, lanes of x behind vec_fma(a, b, c)            a b +
 * c; vec_add, vec_sub, vec_mul, vec_div vec_max, vec_min(a, b)      b where one is NaN vec_round to
 * the nearest whole number vec_scale(x, n)             x 2^n, n whole and within -160 and 130;
 * fades out below 2^-126 vec_power(x)                2^n, where x = 1.5 * 2^23 + n and n is a
 * normal exponent vec_swap(x, step)           lane i: lane i ^ step, for a step of 1, 2, 4, ...
 *   vec_lane(x)                 lane 0 */
#ifndef KERF_VEC_IMPL_H
#define KERF_VEC_IMPL_H

/* The same in every lane. */
INLINE vec vec_most(vec x)
{
    for (int step = 1; step < LANES; step *= 2)
        x = vec_max(vec_swap(x, step), x);
    return x;
}

INLINE vec vec_total(vec x)
{
    for (int step = 1; step < LANES; step *= 2)
        x = vec_add(vec_swap(x, step), x);
    return x;
}

/* 2^x for x <= 0; what lies below 2^-126 becomes that.  NaN stays.  A polynomial on -1/2 to 1/2, to
 * 3e-9 and the rounding of six additions; 1 for 0. */
INLINE vec vec_exp2(vec x)
{
    static const float c[] = {0x1.5f7276p-10f, 0x1.3b270ep-7f, 0x1.c6ae72p-5f,
                              0x1.ebfbe2p-3f,  0x1.62e432p-1f, 1.0f};
    x = vec_max(vec_all(-126.0f), x);
    /* Adding 1.5 * 2^23 leaves the nearest integer in the low bits. */
    const vec shift = vec_all(0x1.8p23f);
    vec shifted = vec_add(x, shift), r = vec_sub(x, vec_sub(shifted, shift));
    vec p = vec_all(0x1.470b4ap-13f);
    for (int i = 0; i < 6; i++)
        p = vec_fma(p, r, vec_all(c[i]));
    return vec_mul(p, vec_power(shifted));
}

/* exp(x), infinite above 89, 0 below the smallest subnormal; NaN stays.  x = n ln 2 + r with
 * |r| <= ln 2 / 2, exp(r) by its Taylor polynomial of degree 7 (relative error below 1e-8 there).
 */
INLINE vec vec_exp(vec x)
{
    static const float inverse_factorial[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6,
                                              0.5f,       1.0f,       1.0f};
    x = vec_max(vec_all(-110.0f), vec_min(vec_all(89.0f), x));
    vec n = vec_round(vec_mul(x, vec_all(0x1.715476p+0f)));
    /* ln 2 in two parts: the first has few bits, so that n times it is exact. */
    vec r = vec_fma(n, vec_all(-0x1.62ep-1f), x);
    r = vec_fma(n, vec_all(-0x1.0bfbe8p-15f), r);
    vec p = vec_all(1.0f / 5040);
    for (int i = 0; i < 7; i++)
        p = vec_fma(p, r, vec_all(inverse_factorial[i]));
    return vec_scale(p, n);
}

#endif
