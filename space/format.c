/* format.c - the table of block formats; the X-list in the header is the only source of its rows.
 */
#include "space/format.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    uint32_t ggml_type;
    size_t block;
    size_t bytes;
} rows[N_FORMATS] = {
#define FORMAT_ROW(name, ggml_type, block, bytes)                                                  \
    [FORMAT_##name] = {#name, ggml_type, block, bytes},
    FORMATS(FORMAT_ROW)
#undef FORMAT_ROW
};

static bool is_format(enum format format)
{
    return (int)format >= 0 && (int)format < N_FORMATS;
}

const char *format_name(enum format format)
{
    return is_format(format) ? rows[format].name : "none";
}

enum format format_parse(const char *name)
{
    for (int f = 0; f < N_FORMATS; f++)
        if (strcmp(rows[f].name, name) == 0)
            return (enum format)f;
    return FORMAT_NONE;
}

enum format format_from_ggml(uint32_t ggml_type)
{
    for (int f = 0; f < N_FORMATS; f++)
        if (rows[f].ggml_type == ggml_type)
            return (enum format)f;
    return FORMAT_NONE;
}

uint32_t format_to_ggml(enum format format)
{
    assert(is_format(format));
    return rows[format].ggml_type;
}

size_t format_block(enum format format)
{
    assert(is_format(format));
    return rows[format].block;
}

size_t format_block_bytes(enum format format)
{
    assert(is_format(format));
    return rows[format].bytes;
}

size_t format_stride(enum format format)
{
    enum { CACHE_LINE = 64 };
    size_t block = format_block_bytes(format), stride = CACHE_LINE;

    while (stride % block != 0)
        stride += CACHE_LINE;
    return stride;
}

double format_bits(enum format format)
{
    assert(is_format(format));
    return 8.0 * (double)rows[format].bytes / (double)rows[format].block;
}

bool format_is_quantized(enum format format)
{
    return is_format(format) && rows[format].block > 1;
}

bool format_is_cache(enum format format)
{
    return format == FORMAT_F32 || format == FORMAT_F16 || format == FORMAT_Q8_0 ||
           format == FORMAT_Q4_0;
}

bool format_fits(enum format format, size_t row_len)
{
    assert(is_format(format));
    return row_len > 0 && row_len % rows[format].block == 0;
}

/* One step down the ladder; float formats fit every row, so the walk ends there at the latest. */
static enum format next_smaller_block(enum format format)
{
    switch (format) {
    case FORMAT_Q2_K:
    case FORMAT_Q3_K:
        return FORMAT_IQ4_NL;
    case FORMAT_Q4_K:
        return FORMAT_Q4_0;
    case FORMAT_Q5_K:
        return FORMAT_Q5_0;
    case FORMAT_Q6_K:
        return FORMAT_Q8_0;
    default:
        return FORMAT_F16;
    }
}

enum format format_fallback(enum format format, size_t row_len)
{
    assert(row_len > 0);
    while (!format_fits(format, row_len))
        format = next_smaller_block(format);
    return format;
}

size_t format_row_bytes(enum format format, size_t row_len)
{
    assert(format_fits(format, row_len));
    return row_len / rows[format].block * rows[format].bytes;
}

static const char *const act_names[N_ACT_FORMATS] = {[ACT_FLOAT] = "a16", [ACT_Q8] = "a8"};

const char *act_format_name(enum act_format act)
{
    assert((int)act >= 0 && act < N_ACT_FORMATS);
    return act_names[act];
}

enum act_format act_format_parse(const char *name, bool *known)
{
    for (int a = 0; a < N_ACT_FORMATS; a++) {
        if (strcmp(act_names[a], name) == 0) {
            *known = true;
            return (enum act_format)a;
        }
    }
    *known = false;
    return ACT_FLOAT;
}

enum act_format act_format_of(enum format weights)
{
    return format_is_quantized(weights) ? ACT_Q8 : ACT_FLOAT;
}
