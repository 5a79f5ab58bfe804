/* float_amx.c - sixteen columns and more of float activations times rows of any format, in tiles of
 * bf16.
 *
 * Floats are cut into pieces of bf16 so that nothing is lost: a piece is what is left, rounded to
 * eight bits, and three pieces are a float of 24 bits.  Activations have three, weights as many as
 * their format has bits for: BF16 one, F16, Q4_0 and Q5_0 (11 bits of a factor times at most 5)
 * two, the others three.  Piece i of a weight times piece j of an activation is wanted for i + j <
 * 3; what is left out is at most 2^-24 of a product, of either sign.  Products of pieces are exact
 * and sums are floats, so that a result is as far from the true one as that of multiply-adds on
 * floats is, within the few times 2^-24 that an order of addition makes (the tests compare with
 * doubles).
 *
 * What differs: tiles take numbers below 2^-126 for zero, among what they read as among their sums
 * (TDPBF16PS, which looks at no mode), so that products lose up to some 2^-125 each; and what
 * rounds to infinity in bf16, from 2^128 - 2^119 on, is infinite.  The later pieces of what is not
 * finite are NaN, so that it shows even against a weight of zero.
 *
 * Counted for a processor that adds 512 products of bf16 a cycle, where multiply-adds on floats
 * do 32: one product of 16 x 16 sums, 32 deep, takes 16 cycles, so that BF16 takes 48, F16, Q4_0
 * and Q5_0 80 and the others 96 for what takes float_avx512.c 256.  Four tiles of sums share what
 * is loaded: with six products 18 loads of 8 cycles for 24 products.  Rows are unpacked to floats
 * and cut into pieces once for 256 columns.  Codes are exact in one piece, and their three products
 * with a scale for each group afterwards would take half the cycles of six, for a group of 32; one
 * way for every format was preferred.  These counts are arithmetic, not measurements. */
#include "evaluator/kernels/float_avx512.h"
#include "evaluator/kernels/kernel_sets.h"
#include "evaluator/kernels/tiles_amx.h"
#include "evaluator/kernels/transpose_avx512.h"

enum { PIECES = 3, CHUNK = 256, DEPTH = 32, STEPS = CHUNK / DEPTH, HALVES = 2 };
enum { ROWS = HALVES * TILE_ROWS, PANEL = 256, BLOCKS = PANEL / TILE_ROWS };

/* 32 values of sixteen columns: an A. */
typedef uint16_t columns_piece[TILE_ROWS][DEPTH];
/* 32 weights of sixteen rows, two neighbours of a row in a dword: a B. */
typedef uint32_t rows_piece[DEPTH / 2][TILE_ROWS];

struct panel {
    _Alignas(64) columns_piece piece[STEPS][BLOCKS][PIECES];
};

struct strip {
    _Alignas(64) rows_piece piece[STEPS][PIECES][HALVES];
};

/* ---- pieces ---- */

/* The next piece in the upper halves of the dwords, taken away from `rest`.  The last takes what
 * there is without rounding, which would make zero of some NaN. */
INLINE __m512i piece_of(__m512 *rest, bool last)
{
    __m512i bits = _mm512_castps_si512(*rest);
    if (!last)
        bits = _mm512_add_epi32(bits, _mm512_set1_epi32(0x8000));
    bits = _mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000));
    *rest = _mm512_sub_ps(*rest, _mm512_castsi512_ps(bits));
    return bits;
}

/* The lanes that are left of n elements behind i, perhaps none. */
INLINE __mmask16 lanes(size_t i, size_t n)
{
    return i < n ? tail_mask(n - i) : 0;
}

/* Sixteen columns, or the `n_cols` that are left, of n values; zeros behind both. */
static void cut_columns(const char *x, size_t apart, size_t n_cols, size_t n, struct panel *panel,
                        size_t block)
{
    static const uint16_t odd[DEPTH] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                        23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                        45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    const __m512i upper = _mm512_loadu_si512(odd);
    for (size_t c = 0; c < TILE_ROWS; c++) {
        const char *column = x + (c < n_cols ? c : 0) * apart;
        for (size_t s = 0; s * DEPTH < n; s++) {
            size_t i = s * DEPTH;
            __mmask16 some = c < n_cols ? lanes(i, n) : 0, more = c < n_cols ? lanes(i + 16, n) : 0;
            __m512 a = _mm512_maskz_loadu_ps(some, column + i * sizeof(float));
            __m512 b = _mm512_maskz_loadu_ps(more, column + (i + 16) * sizeof(float));
            for (int j = 0; j < PIECES; j++) {
                __m512i low = piece_of(&a, j == PIECES - 1), high = piece_of(&b, j == PIECES - 1);
                _mm512_store_si512(panel->piece[s][block][j][c],
                                   _mm512_permutex2var_epi16(low, upper, high));
            }
        }
    }
}

/* Sixteen rows of n floats. */
static void cut_rows(const char *const rows[TILE_ROWS], size_t n, int n_pieces, struct strip *strip,
                     int half)
{
    for (size_t i = 0; i < (n + DEPTH - 1) / DEPTH * DEPTH; i += 16) {
        __m512i m[16];
        for (int r = 0; r < TILE_ROWS; r++)
            m[r] = _mm512_maskz_loadu_epi32(lanes(i, n), rows[r] + i * sizeof(float));
        transpose(m);
        for (size_t k = 0; k < 8; k++) {
            __m512 first = _mm512_castsi512_ps(m[2 * k]);
            __m512 second = _mm512_castsi512_ps(m[2 * k + 1]);
            for (int p = 0; p < n_pieces; p++) {
                __m512i low = piece_of(&first, p == n_pieces - 1);
                __m512i high = piece_of(&second, p == n_pieces - 1);
                _mm512_store_si512(strip->piece[i / DEPTH][p][half][i % DEPTH / 2 + k],
                                   _mm512_or_si512(_mm512_srli_epi32(low, 16), high));
            }
        }
    }
}

/* Sixteen rows of n bf16, which are pieces already. */
static void turn_rows(const char *const rows[TILE_ROWS], size_t n, struct strip *strip, int half)
{
    for (size_t i = 0; i < n; i += DEPTH) {
        __mmask32 mask = n - i >= DEPTH ? 0xffffffff : (1u << (n - i)) - 1;
        __m512i m[16];
        for (int r = 0; r < TILE_ROWS; r++)
            m[r] = _mm512_maskz_loadu_epi16(mask, rows[r] + 2 * i);
        transpose(m);
        for (size_t k = 0; k < 16; k++)
            _mm512_store_si512(strip->piece[i / DEPTH][0][half][k], m[k]);
    }
}

/* ---- products ---- */

/* Of `n_steps` steps: sums[2 * block + half] of one block of columns or of two. */
INLINE void products(const struct panel *panel, size_t block, bool two, const struct strip *strip,
                     size_t n_steps, int n_pieces, float sums[4][TILE_ROWS][TILE_ROWS])
{
    tiles_fence();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t s = 0; s < n_steps; s++)
        for (int i = 0; i < n_pieces; i++) {
            _tile_loadd(6, strip->piece[s][i][0], TILE_ROW_BYTES);
            _tile_loadd(7, strip->piece[s][i][1], TILE_ROW_BYTES);
            for (int j = 0; i + j < PIECES; j++) {
                _tile_loadd(4, panel->piece[s][block][j], TILE_ROW_BYTES);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                if (two) {
                    _tile_loadd(5, panel->piece[s][block + 1][j], TILE_ROW_BYTES);
                    _tile_dpbf16ps(2, 5, 6);
                    _tile_dpbf16ps(3, 5, 7);
                }
            }
        }
    _tile_stored(0, sums[0], TILE_ROW_BYTES);
    _tile_stored(1, sums[1], TILE_ROW_BYTES);
    if (two) {
        _tile_stored(2, sums[2], TILE_ROW_BYTES);
        _tile_stored(3, sums[3], TILE_ROW_BYTES);
    }
}

/* The sums of n_cols columns, added to out unless they are the first. */
static void add_to(float *out, size_t out_stride, bool first, __mmask32 mask, size_t n_cols,
                   float sums[4][TILE_ROWS][TILE_ROWS])
{
    for (size_t c = 0; c < n_cols; c++)
        for (int half = 0; half < HALVES; half++) {
            __mmask16 rows = (__mmask16)(mask >> TILE_ROWS * half);
            float *o = out + c * out_stride;
            if (rows == 0)
                continue;
            o += TILE_ROWS * half;
            __m512 sum = _mm512_load_ps(sums[c / TILE_ROWS * HALVES + half][c % TILE_ROWS]);
            if (!first)
                sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(rows, o));
            _mm512_mask_storeu_ps(o, rows, sum);
        }
}

static void multiply(const struct panel *panel, size_t n_cols, const struct strip *strip, size_t n,
                     int n_pieces, bool first, __mmask32 mask, float *out, size_t out_stride)
{
    enum { TWO = 2 * TILE_ROWS };
    _Alignas(64) float sums[4][TILE_ROWS][TILE_ROWS];
    size_t n_steps = (n + DEPTH - 1) / DEPTH;
    for (size_t c = 0; c < n_cols; c += TWO) {
        size_t some = n_cols - c < TWO ? n_cols - c : TWO;
        if (some > TILE_ROWS)
            products(panel, c / TILE_ROWS, true, strip, n_steps, n_pieces, sums);
        else
            products(panel, c / TILE_ROWS, false, strip, n_steps, n_pieces, sums);
        add_to(out + c * out_stride, out_stride, first, mask, some, sums);
    }
}

/* ---- all rows ---- */

/* What makes the formats different. */
struct source {
    enum format format;
    size_t block, block_bytes;
    int n_pieces;
    kernel_unpack_fn *unpack;
};

/* The n weights that each row has from its byte `at` on. */
static void fill(const struct source *from, const char *const rows[ROWS], size_t at, size_t n,
                 struct strip *strip)
{
    for (int half = 0; half < HALVES; half++) {
        float y[TILE_ROWS][CHUNK];
        const char *row[TILE_ROWS];
        for (int r = 0; r < TILE_ROWS; r++) {
            row[r] = rows[TILE_ROWS * half + r] + at;
            if (from->format == FORMAT_F32 || from->format == FORMAT_BF16)
                continue;
            from->unpack(row[r], n, y[r]);
            row[r] = (const char *)y[r];
        }
        if (from->format == FORMAT_BF16)
            turn_rows(row, n, strip, half);
        else
            cut_rows(row, n, from->n_pieces, strip, half);
    }
}

static void multiply_panel(const struct source *from, const char *w, size_t row_bytes,
                           size_t n_rows, size_t n_in, const char *act, size_t act_bytes,
                           size_t n_cols, float *out, size_t out_stride)
{
    struct panel panel;
    struct strip strip;
    for (size_t begin = 0; begin < n_in; begin += CHUNK) {
        size_t n = n_in - begin < CHUNK ? n_in - begin : CHUNK;
        for (size_t c = 0; c < n_cols; c += TILE_ROWS)
            cut_columns(act + c * act_bytes + begin * sizeof(float), act_bytes,
                        n_cols - c < TILE_ROWS ? n_cols - c : TILE_ROWS, n, &panel, c / TILE_ROWS);
        for (size_t r = 0; r < n_rows; r += ROWS) {
            const char *rows[ROWS]; /* a ragged last strip repeats its last row, unstored */
            size_t some = n_rows - r < ROWS ? n_rows - r : ROWS;
            for (size_t i = 0; i < ROWS; i++)
                rows[i] = w + (r + (i < some ? i : some - 1)) * row_bytes;
            fill(from, rows, begin / from->block * from->block_bytes, n, &strip);
            multiply(&panel, n_cols, &strip, n, from->n_pieces, begin == 0,
                     (__mmask32)(0xffffffffu >> (ROWS - some)), out + r, out_stride);
        }
    }
}

/* ---- one function a format ---- */

/* What the set had before: for fewer columns than a tile has rows; and its unpacking. */
static kernel_matmul_fn *narrow[N_FORMATS];
static kernel_unpack_fn *unpack_of[N_FORMATS];

/* In whose weights a float has fewer than 17 bits. */
INLINE int pieces_of(enum format format)
{
    if (format == FORMAT_BF16)
        return 1;
    return format == FORMAT_F16 || format == FORMAT_Q4_0 || format == FORMAT_Q5_0 ? 2 : PIECES;
}

#define MATMUL(name, ggml_type, block, bytes)                                                      \
    static void matmul_##name(const void *w, size_t row_bytes, size_t n_rows, size_t n_in,         \
                              const void *act, size_t act_bytes, size_t n_cols, float *out,        \
                              size_t out_stride)                                                   \
    {                                                                                              \
        if (n_cols < TILE_ROWS) {                                                                  \
            narrow[FORMAT_##name](w, row_bytes, n_rows, n_in, act, act_bytes, n_cols, out,         \
                                  out_stride);                                                     \
            return;                                                                                \
        }                                                                                          \
        struct source from = {FORMAT_##name, block, bytes, pieces_of(FORMAT_##name),               \
                              unpack_of[FORMAT_##name]};                                           \
        tiles_shape(TILE_ROWS, TILE_ROW_BYTES);                                                    \
        for (size_t c = 0; c < n_cols; c += PANEL)                                                 \
            multiply_panel(&from, w, row_bytes, n_rows, n_in, (const char *)act + c * act_bytes,   \
                           act_bytes, n_cols - c < PANEL ? n_cols - c : PANEL,                     \
                           out + c * out_stride, out_stride);                                      \
        tiles_release();                                                                           \
    }
FORMATS(MATMUL)

void float_amx_fill(struct kernels *set)
{
#define ENTRY(name, ggml_type, block, bytes)                                                       \
    unpack_of[FORMAT_##name] = set->unpack[FORMAT_##name];                                         \
    narrow[FORMAT_##name] = set->matmul[FORMAT_##name][ACT_FLOAT];                                 \
    set->matmul[FORMAT_##name][ACT_FLOAT] = matmul_##name;
    FORMATS(ENTRY)
}
