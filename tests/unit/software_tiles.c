#include "tests/unit/software_tiles.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64 };

struct tile {
    size_t rows, row_bytes;
    uint8_t at[ROWS][ROW_BYTES];
};

static _Thread_local struct {
    bool stand, wrong;
    size_t products;
    struct tile tile[TILES];
} state;

static void require(bool good, const char *what)
{
    if (good)
        return;
    printf("Bail out! software tiles: %s\n", what);
    fflush(stdout);
    abort();
}

static struct tile *tile_of(int t)
{
    require(state.stand, "tiles are used before they have shapes");
    require(t >= 0 && t < TILES && state.tile[t].rows > 0, "a tile without a shape is used");
    return &state.tile[t];
}

void tiles_configure(const void *shapes)
{
    const uint8_t *p = shapes;
    require(p[0] == 1, "the palette is not 1");
    require(p[1] == 0, "a row to start from is not expected");
    for (int i = 2; i < 16; i++)
        require(p[i] == 0, "reserved bytes are not zero");
    for (int t = 0; t < 16; t++) {
        size_t row_bytes = p[16 + 2 * t] + 256u * p[17 + 2 * t], rows = p[48 + t];
        require(t < TILES || (rows == 0 && row_bytes == 0), "there are no such tiles");
        require(rows <= ROWS && row_bytes <= ROW_BYTES, "a shape is too large");
        require((rows == 0) == (row_bytes == 0), "a shape is half empty");
        if (t < TILES)
            state.tile[t] = (struct tile){.rows = rows, .row_bytes = row_bytes};
    }
    state.stand = true;
}

void tiles_forget(void)
{
    memset(state.tile, 0, sizeof state.tile);
    state.stand = false;
}

void tile_zero(int t)
{
    memset(tile_of(t)->at, 0, sizeof state.tile[t].at);
}

void tile_load(int t, const void *from, size_t stride)
{
    struct tile *tile = tile_of(t);
    require(tile->row_bytes % 4 == 0, "a row is no whole number of dwords");
    tile_zero(t);
    for (size_t r = 0; r < tile->rows; r++)
        memcpy(tile->at[r], (const uint8_t *)from + r * stride, tile->row_bytes);
}

void tile_store(int t, void *to, size_t stride)
{
    const struct tile *tile = tile_of(t);
    require(tile->row_bytes % 4 == 0, "a row is no whole number of dwords");
    for (size_t r = 0; r < tile->rows; r++)
        memcpy((uint8_t *)to + r * stride, tile->at[r], tile->row_bytes);
}

/* C is m x n, A m x k, B k x n dwords. */
static void product_begin(int c, int a, int b)
{
    const struct tile *sum = tile_of(c), *left = tile_of(a), *right = tile_of(b);
    require(c != a && c != b && a != b, "a product of a tile with itself");
    require(sum->row_bytes % 4 == 0 && left->row_bytes % 4 == 0, "no whole number of dwords");
    require(sum->rows == left->rows && sum->row_bytes == right->row_bytes &&
                left->row_bytes / 4 == right->rows,
            "the shapes of a product do not fit");
    state.products++;
}

static void product_end(int c)
{
    struct tile *sum = tile_of(c);
    sum->at[sum->rows - 1][sum->row_bytes - 2] ^= state.wrong ? 0x80 : 0;
    for (size_t r = sum->rows; r < ROWS; r++)
        memset(sum->at[r], 0, sizeof sum->at[r]);
}

static void product_bytes(int c, int a, int b, bool a_signed)
{
    product_begin(c, a, b);
    for (size_t m = 0; m < state.tile[c].rows; m++)
        for (size_t k = 0; k < state.tile[b].rows; k++)
            for (size_t n = 0; n < state.tile[c].row_bytes / 4; n++) {
                const uint8_t *x = &state.tile[a].at[m][4 * k], *y = &state.tile[b].at[k][4 * n];
                int32_t sum;
                memcpy(&sum, &state.tile[c].at[m][4 * n], sizeof sum);
                for (int i = 0; i < 4; i++)
                    sum += (a_signed ? (int8_t)x[i] : x[i]) * (int8_t)y[i];
                memcpy(&state.tile[c].at[m][4 * n], &sum, sizeof sum);
            }
    product_end(c);
}

void tile_product_ss(int c, int a, int b)
{
    product_bytes(c, a, b, true);
}

void tile_product_us(int c, int a, int b)
{
    product_bytes(c, a, b, false);
}

/* Denormal numbers are zero, read or written. */
static float flushed(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

static float bf16_at(const uint8_t *p)
{
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float x;
    memcpy(&x, &bits, sizeof x);
    return flushed(x);
}

/* Even and odd products are added up apart from each other, each with one rounding, and from zero;
 * then both together, then to what was there. */
void tile_product_bf16(int c, int a, int b)
{
    enum { DWORDS = ROW_BYTES / 4 };
    product_begin(c, a, b);
    size_t depth = state.tile[b].rows;
    float right[2][ROWS][DWORDS];
    for (int odd = 0; odd < 2; odd++)
        for (size_t k = 0; k < depth; k++)
            for (size_t n = 0; n < DWORDS; n++)
                right[odd][k][n] = bf16_at(&state.tile[b].at[k][4 * n + 2 * (size_t)odd]);
    for (size_t m = 0; m < state.tile[c].rows; m++) {
        float half[2][DWORDS] = {{0}};
        for (int odd = 0; odd < 2; odd++)
            for (size_t k = 0; k < depth; k++) {
                float left = bf16_at(&state.tile[a].at[m][4 * k + 2 * (size_t)odd]);
                for (size_t n = 0; n < DWORDS; n++)
                    half[odd][n] = flushed(fmaf(left, right[odd][k][n], half[odd][n]));
            }
        for (size_t n = 0; n < state.tile[c].row_bytes / 4; n++) {
            float sum;
            memcpy(&sum, &state.tile[c].at[m][4 * n], sizeof sum);
            sum = flushed(flushed(sum) + flushed(half[0][n] + half[1][n]));
            memcpy(&state.tile[c].at[m][4 * n], &sum, sizeof sum);
        }
    }
    product_end(c);
}

bool tiles_stand(void)
{
    return state.stand;
}

size_t tiles_products(void)
{
    return state.products;
}

void tiles_falsify(bool wrong)
{
    state.wrong = wrong;
}
