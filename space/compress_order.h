/* compress_order.h - which of the two ways to make a unit smaller comes first (study.json,
 * "compression").
 *   prune-quantize   the columns that stay are solved anew for those that went, then quantized:
 *                    each width has codes of its own
 *   quantize-prune   a matrix is quantized once, its columns best first, and cut short: a narrower
 *                    width is the beginning of each row, byte for byte, and nothing makes up for
 *                    what went */
#ifndef KERF_COMPRESS_ORDER_H
#define KERF_COMPRESS_ORDER_H

enum compress_order { COMPRESS_PRUNE_QUANTIZE, COMPRESS_QUANTIZE_PRUNE, N_COMPRESS_ORDERS };

const char *compress_order_name(enum compress_order order);
enum compress_order compress_order_parse(const char *name); /* N_COMPRESS_ORDERS when unknown */

#endif
