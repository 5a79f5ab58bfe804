/* basis.h - another basis of the residual stream: one matrix Q[d][k] with orthonormal columns for
 * the whole model (methods.md A1, "hidden size", and A2, rotation; Ashkboos et al., SliceGPT, 2024,
 * without its matrices on the skip connections; QuaRot, 2024).
 *
 * With the norms' gains folded into what reads them, every unit reads xhat = h / rms(h) and adds to
 * h.  So h' = Q'h is carried instead: embedding E Q, writers (o, down) Q'W, and for the readers
 *
 *     W xhat  ~  W' x',    x' = gain * h' / rms(h'),   rms over k values
 *
 * k = d is a rotation and exact: W' = W diag(g) Q.  For k < d the part of xhat that is not in Q is
 * lost, and the readers are solved anew for what is left: with H = mean of xhat xhat'
 *
 *     W' = W diag(g) A,    A = H Q (Q'H Q)^-1       (least squares; damped as in obs.h)
 *
 * The norm measures h' where it measured h.  One number a norm puts that right on average: the
 * gain sqrt(tr(Q'H Q) / tr H * d / k) makes the energy of x' that of Q'xhat.
 *
 * So that no reader gets numbers too small for the scales of quantized formats, the root mean
 * square s of the old gains stays in the norm: its gain is s times that number, and W' is 1/s of
 * the above.  Moments of x' are s^2 Q'H Q.
 *
 * Q.  Its columns are the k principal directions of the sum of the H of all readers, the head
 * included, each with the same trace; then, if wanted, turned by a randomized Hadamard matrix,
 * which spreads outliers over all channels.  A channel with a gain of 0 is never heard: it counts
 * as one of mean square 1 that hangs together with no other.
 *
 * Measured on the reference model, d = 256 (tests/bench/bench_basis: 16,384 calibration tokens, KLD
 * in nats per token on 8,192 held-out ones, +- standard error by sequence):
 *
 *                      projected (A = Q)    solved anew          + Hadamard
 *     k = 224, BF16    0.0072 +- 0.0005     0.0042 +- 0.0003     0.0042 +- 0.0003
 *     k = 224, Q4_0                         0.0057 +- 0.0003     0.0050 +- 0.0003
 *     k = 192, BF16    0.041  +- 0.004      0.026  +- 0.003      0.027  +- 0.003
 *     k = 192, Q4_0                         0.031  +- 0.004      0.030  +- 0.004
 *
 *     k = 256, layers in     Q8_0         Q4_K         Q4_0         Q3_K         Q2_K
 *     KLD * 1000, as it is   0.078(4)     0.67(5)      0.89(9)      2.35(13)     10.8(13)
 *     turned                 0.039(2)     0.55(4)      0.58(5)      2.26(13)     10.3(10)
 *
 * (embedding and head in Q8_0 wherever layers are quantized).  stories260K, of width 64, keeps
 * nothing to take away: k = 56 costs 0.56; turning it changes Q8_0 by -23 % and Q4_0 by +10 %.  So
 * a narrower stream is worth a level where the parent is wide, and turning the full one is for the
 * user to ask for: it helps fine formats most, and takes a tied parent an output matrix more. */
#ifndef KERF_BASIS_H
#define KERF_BASIS_H

#include "evaluator/compression/calibration.h"
#include "evaluator/parent.h"

struct basis {
    uint32_t d_model, hidden; /* d and k */
    enum rotation rotation;
    bool projects; /* A = Q, nothing solved anew: what the other one is compared with */
    double *q;     /* [d_model][hidden] */
};

/* `hidden` from 1 to d_model; d_model needs no principal directions.  ERR_MEMORY, or ERR_DATA for a
 * damaged calibration. */
int basis_init(struct basis *basis, const struct parent *parent,
               const struct calibration *calibration, uint32_t hidden, enum rotation rotation,
               struct err *err);
void basis_fini(struct basis *basis); /* a zeroed struct is fine */

/* Where the stream is read: what stands behind one norm. */
struct basis_reader {
    double *map;    /* [d_model][hidden]: W becomes W map */
    double *moment; /* [hidden][hidden], of x' */
    double *mean;   /* [hidden] */
    float gain;     /* of the norm, for every value */
};

/* moments[d_model][d_model] and mean[d_model] of what the readers get now, behind a norm with
 * gain[d_model], over `n_tokens`.  `moments` is spoilt. */
int basis_reader_init(struct basis_reader *reader, const struct basis *basis, double *moments,
                      const float *mean, const float *gain, uint64_t n_tokens, struct err *err);
void basis_reader_fini(struct basis_reader *reader); /* a zeroed struct is fine */

/* q[n][n] = a randomized Hadamard matrix: for n = 2^a m, m odd, the Kronecker product of
 * Sylvester's matrix of 2^a and the cosine transform (DCT-II) of m, orthonormal, each row with a
 * random sign.  The same for every call. */
void basis_hadamard(size_t n, double *q);
/* q[n][k] = the k principal directions of the symmetric sum[n][n], the strongest first, the largest
 * value of each positive.  `sum` is spoilt. */
int basis_principal(size_t n, double *sum, size_t k, double *q, struct err *err);

#endif
