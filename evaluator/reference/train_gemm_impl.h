/* train_gemm_impl.h - linear maps by blocks (panels: train_tiles.h), written once and built once
 * for each kind of block: train_backend_amx.c and train_backend_dot.c include it after their block
 * header.
 *
 * A packed weight is W' in panels (columns = outputs, k = inputs) followed by W in panels
 * (columns = inputs, k = outputs).  The other operand is packed as it comes, GROUP rows at a time:
 * that many stay in the second-level cache while all weight panels pass over them once. */
enum {
    GROUP = 256,       /* rows of A packed at a time */
    WEIGHT_ROWS = 512, /* rows summed per visit of a block of a weight gradient */
};

static size_t panel_size(size_t n_k)
{
    return tile_panels(n_k) * TILE_STEP;
}

static size_t gemm_weight_bytes(size_t n_out, size_t n_in)
{
    return 2 * tile_panels(n_out) * tile_panels(n_in) * TILE_STEP * sizeof(uint16_t);
}

/* Rows [first, first + 32) of w in bf16, to[32][ld]. */
static void rows_to_bf16(const float *w, size_t n_rows, size_t n_cols, size_t first, size_t ld,
                         uint16_t *to)
{
    for (size_t r = 0; r < TILE_SIDE && first + r < n_rows; r++) {
        const float *from = w + (first + r) * n_cols;
        for (size_t c = 0; c < n_cols; c += 16) {
            __mmask16 mask = (__mmask16)tile_mask(n_cols, c, 16);
            __m256i half = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + c));
            _mm256_store_si256((__m256i *)(to + r * ld + c), half);
        }
    }
}

static void gemm_weight_pack(size_t n_out, size_t n_in, const float *w, void *packed)
{
    /* 32 rows of W are one panel forward and one k-step of every panel backward; a strip of
     * columns at a time keeps the bf16 copy on the stack. */
    enum { STRIP = 256 };
    uint16_t strip[TILE_SIDE * STRIP] __attribute__((aligned(64)));
    uint16_t *forward = packed;
    uint16_t *back = forward + tile_panels(n_out) * panel_size(n_in);
    for (size_t o = 0; o < n_out; o += TILE_SIDE) {
        size_t rows = n_out - o < TILE_SIDE ? n_out - o : TILE_SIDE;
        for (size_t i = 0; i < n_in; i += STRIP) {
            size_t cols = n_in - i < STRIP ? n_in - i : STRIP;
            for (size_t r = 0; r < rows; r++)
                rows_to_bf16(w + (o + r) * n_in + i, 1, cols, 0, STRIP, strip + r * STRIP);
            tile_pack_b_transposed(strip, STRIP, rows, cols, 0,
                                   forward + o / 32 * panel_size(n_in) + i / 32 * TILE_STEP);
            for (size_t c = 0; c < cols; c += TILE_SIDE)
                tile_pack_b(strip, STRIP, cols, rows, c,
                            back + (i + c) / 32 * panel_size(n_out) + o / 32 * TILE_STEP);
        }
    }
}

static size_t gemm_scratch(size_t n_out, size_t n_in)
{
    size_t longest = n_out > n_in ? n_out : n_in;
    size_t rows = GROUP / TILE_SIDE * panel_size(longest);
    size_t sums = (GROUP / TILE_SIDE + tile_panels(n_in)) * panel_size(WEIGHT_ROWS);
    return (rows > sums ? rows : sums) * sizeof(uint16_t);
}

/* One 32x32 block of results to its place; n_rows and n_cols are what exists of it. */
static void block_write(const float *block, struct train_output y, size_t row, size_t col,
                        size_t n_rows, size_t n_cols)
{
    __mmask16 low = (__mmask16)tile_mask(n_cols, 0, 16),
              high = (__mmask16)tile_mask(n_cols, 16, 16);
    for (size_t r = 0; r < n_rows; r++, block += TILE_SIDE) {
        size_t at = (row + r) * y.ld + col;
        __m512 a = _mm512_load_ps(block), b = _mm512_load_ps(block + 16);
        if (y.y_float == NULL) {
            uint32_t mask = tile_mask(n_cols, 0, 32);
            _mm512_mask_storeu_epi16((uint16_t *)y.y_stored + at, mask, tile_to_bf16(a, b));
            continue;
        }
        if (y.add != NULL) {
            a = _mm512_add_ps(a, _mm512_maskz_loadu_ps(low, y.add + at));
            b = _mm512_add_ps(b, _mm512_maskz_loadu_ps(high, y.add + at + 16));
        }
        _mm512_mask_storeu_ps(y.y_float + at, low, a);
        _mm512_mask_storeu_ps(y.y_float + at + 16, high, b);
    }
}

static size_t at_most(size_t n, size_t limit)
{
    return n < limit ? n : limit;
}

/* x[n_rows][n_k] times the panels of B, which has n_cols columns.  A block is written out while
 * the tiles already multiply the next one, so there are two block buffers. */
static void multiply(size_t n_rows, size_t n_cols, size_t n_k, const uint16_t *x, size_t ldx,
                     const uint16_t *b, struct train_output y, uint16_t *scratch)
{
    float blocks[2][TILE_BLOCK] __attribute__((aligned(64)));
    size_t steps = tile_panels(n_k), panel = panel_size(n_k);
    tile_begin();
    for (size_t group = 0; group < n_rows; group += GROUP) {
        size_t rows = at_most(n_rows - group, GROUP), side = tile_panels(rows);
        size_t n_blocks = side * tile_panels(n_cols);
        for (size_t r = 0; r < side; r++)
            tile_pack_a(x + group * ldx, ldx, rows, n_k, 32 * r, scratch + r * panel);
        for (size_t i = 0; i <= n_blocks; i++) {
            if (i < n_blocks)
                tile_block(steps, scratch + i % side * panel, b + i / side * panel, blocks[i % 2],
                           TILE_SIDE);
            if (i > 0) {
                size_t r = (i - 1) % side * 32, c = (i - 1) / side * 32;
                block_write(blocks[(i - 1) % 2], y, group + r, c, at_most(rows - r, 32),
                            at_most(n_cols - c, 32));
            }
        }
    }
    tile_end();
}

static void gemm_linear(size_t n_rows, size_t n_out, size_t n_in, const void *x, size_t ldx,
                        const void *packed, struct train_output y, void *scratch)
{
    multiply(n_rows, n_out, n_in, x, ldx, packed, y, scratch);
}

static void gemm_linear_back(size_t n_rows, size_t n_out, size_t n_in, const void *dy, size_t ldy,
                             const void *packed, struct train_output dx, void *scratch)
{
    const uint16_t *back = (const uint16_t *)packed + tile_panels(n_out) * panel_size(n_in);
    multiply(n_rows, n_in, n_out, dy, ldy, back, dx, scratch);
}

/* One block of dw += A B, through a buffer where the block hangs over the edge. */
static void block_add(size_t steps, const uint16_t *a, const uint16_t *b, float *dw, size_t n_out,
                      size_t n_in, size_t row, size_t col)
{
    if (row + TILE_SIDE <= n_out && col + TILE_SIDE <= n_in) {
        tile_block_add(steps, a, b, dw + row * n_in + col, n_in);
        return;
    }
    float block[TILE_BLOCK] __attribute__((aligned(64)));
    struct train_output y = {.y_float = dw, .add = dw, .ld = n_in};
    tile_block(steps, a, b, block, TILE_SIDE);
    block_write(block, y, row, col, at_most(n_out - row, 32), at_most(n_in - col, 32));
}

static void gemm_linear_weight(size_t n_rows, size_t n_out, size_t n_in, const void *dy, size_t ldy,
                               const void *x, size_t ldx, float *dw, void *scratch)
{
    uint16_t *a = scratch, *b = a + GROUP / TILE_SIDE * panel_size(WEIGHT_ROWS);
    tile_begin();
    for (size_t first = 0; first < n_rows; first += WEIGHT_ROWS) {
        size_t n = at_most(n_rows - first, WEIGHT_ROWS), steps = tile_panels(n);
        const uint16_t *dy_rows = (const uint16_t *)dy + first * ldy;
        const uint16_t *x_rows = (const uint16_t *)x + first * ldx;
        for (size_t i = 0; i < n_in; i += TILE_SIDE)
            tile_pack_b(x_rows, ldx, n_in, n, i, b + i / 32 * panel_size(n));
        for (size_t o = 0; o < n_out; o += TILE_SIDE) {
            tile_pack_a_transposed(dy_rows, ldy, n_out, n, o, a);
            for (size_t i = 0; i < n_in; i += TILE_SIDE)
                block_add(steps, a, b + i / 32 * panel_size(n), dw, n_out, n_in, o, i);
        }
    }
    tile_end();
}
