/* compress_order.h - which of the two ways to make a unit smaller comes first (study.json,
 * "compression").
 *   prune-quantize   the columns that stay are solved anew for those that went, then quantized:
 *                    each width has codes of its own
 *   quantize-prune   a matrix is quantized once, its columns best first, and cut short: a narrower
 *                    width is the beginning of each row, byte for byte, and nothing makes up for
 *                    what went
 *
 * Measured on the reference model, every FFN narrowed alike and kept in one format, attention and
 * embedding as the parent has them (tests/bench/bench_order: 16,384 calibration tokens, 16,384
 * held-out ones): KLD of quantize-prune over that of prune-quantize, paired by sequence, +-
 * standard error.  1,024 of 1,024 is what rounding the best columns first costs; the rest is the
 * want of repair, which weighs the more the finer the format.
 *
 *     FFN             Q2_K           Q3_K           Q4_K           Q6_K
 *     1024 of 1024    1.10 +- 0.04   1.10 +- 0.03   1.07 +- 0.03   1.08 +- 0.03
 *      768 of 1024    1.36 +- 0.04   1.46 +- 0.04   1.50 +- 0.04   1.51 +- 0.04
 *      512 of 1024    2.08 +- 0.07   2.07 +- 0.08   2.09 +- 0.08   2.08 +- 0.09 */
#ifndef KERF_COMPRESS_ORDER_H
#define KERF_COMPRESS_ORDER_H

enum compress_order { COMPRESS_PRUNE_QUANTIZE, COMPRESS_QUANTIZE_PRUNE, N_COMPRESS_ORDERS };

const char *compress_order_name(enum compress_order order);
enum compress_order compress_order_parse(const char *name); /* N_COMPRESS_ORDERS when unknown */

#endif
