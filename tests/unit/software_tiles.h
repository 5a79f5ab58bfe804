/* software_tiles.h - the matrix tiles of AMX in plain C, so that the kernels for them can be tested
 * where no processor has any.  The kernels' own sources are compiled once more with this header
 * forced in front (CMakeLists.txt); it puts functions in the place of the intrinsics they use.
 *
 * Each function does what Intel's manual (volume 2, of LDTILECFG, TILELOADD, TDPBSSD, TDPBF16PS
 * ...) writes down for its instruction.  What would raise an exception there ends the test here. */
#ifndef KERF_TEST_SOFTWARE_TILES_H
#define KERF_TEST_SOFTWARE_TILES_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>

struct kernels;

void tiles_configure(const void *shapes); /* LDTILECFG */
void tiles_forget(void);                  /* TILERELEASE */
void tile_zero(int t);
void tile_load(int t, const void *from, size_t stride);
void tile_store(int t, void *to, size_t stride);
void tile_product_ss(int c, int a, int b); /* signed bytes of A times signed ones of B */
void tile_product_us(int c, int a, int b); /* unsigned times signed ones */
void tile_product_bf16(int c, int a, int b);

/* What a test wants to know of its own thread's tiles. */
bool tiles_stand(void);         /* shapes are set */
size_t tiles_products(void);    /* products so far */
void tiles_falsify(bool wrong); /* from now on the last sum of every product is wrong, or right */

/* The kernels, compiled with these. */
void int8_software_fill(struct kernels *set);
void float_software_fill(struct kernels *set);

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbusd
#undef _tile_dpbf16ps
#define _tile_loadconfig      tiles_configure
#define _tile_release         tiles_forget
#define _tile_zero            tile_zero
#define _tile_loadd(t, p, s)  tile_load(t, p, (size_t)(s))
#define _tile_stored(t, p, s) tile_store(t, p, (size_t)(s))
#define _tile_dpbssd          tile_product_ss
#define _tile_dpbusd          tile_product_us
#define _tile_dpbf16ps        tile_product_bf16

#endif
