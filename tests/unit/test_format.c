/* Formats: names, sizes and what replaces a format that does not fit a row. */
#include "space/format.h"
#include "tests/tap.h"

static void test_names(void)
{
    for (int f = 0; f < N_FORMATS; f++) {
        enum format format = (enum format)f;
        ok(format_parse(format_name(format)) == format, "the name %s is read back",
           format_name(format));
        ok(format_from_ggml(format_to_ggml(format)) == format, "the ggml type of %s is read back",
           format_name(format));
    }
    ok(format_parse("q4_k") == FORMAT_NONE, "another spelling is not a format");
    ok(format_parse("") == FORMAT_NONE, "nothing is not a format");
    ok(format_from_ggml(3) == FORMAT_NONE, "a ggml type outside the list (Q4_1) is refused");
    ok(format_from_ggml(UINT32_MAX) == FORMAT_NONE, "an absurd ggml type is refused");
    is_text(format_name(FORMAT_NONE), "none", "no format has a printable name");
}

static void test_sizes(void)
{
    near(format_bits(FORMAT_Q2_K), 2.625, 0, "Q2_K takes 2.625 bits a weight");
    near(format_bits(FORMAT_Q3_K), 3.4375, 0, "Q3_K takes 3.4375 bits a weight");
    near(format_bits(FORMAT_Q6_K), 6.5625, 0, "Q6_K takes 6.5625 bits a weight");
    near(format_bits(FORMAT_Q8_0), 8.5, 0, "Q8_0 takes 8.5 bits a weight");
    for (int f = 1; f < N_FORMATS; f++)
        ok(format_bits((enum format)f) >= format_bits((enum format)(f - 1)),
           "%s takes no fewer bits than its left neighbour", format_name((enum format)f));
    ok(format_row_bytes(FORMAT_Q4_K, 512) == 288, "a row of 512 in Q4_K takes two blocks");
    ok(format_row_bytes(FORMAT_F32, 7) == 28, "a row of 7 floats takes 28 bytes");
}

static void test_fallback(void)
{
    ok(format_fallback(FORMAT_Q4_K, 768) == FORMAT_Q4_K, "a format that fits is kept");
    ok(format_fallback(FORMAT_Q2_K, 96) == FORMAT_IQ4_NL, "Q2_K falls to IQ4_NL");
    ok(format_fallback(FORMAT_Q3_K, 96) == FORMAT_IQ4_NL, "Q3_K falls to IQ4_NL");
    ok(format_fallback(FORMAT_Q4_K, 96) == FORMAT_Q4_0, "Q4_K falls to Q4_0");
    ok(format_fallback(FORMAT_Q5_K, 96) == FORMAT_Q5_0, "Q5_K falls to Q5_0");
    ok(format_fallback(FORMAT_Q6_K, 96) == FORMAT_Q8_0, "Q6_K falls to Q8_0");
    ok(format_fallback(FORMAT_Q6_K, 172) == FORMAT_F16, "a row of 172 falls through to F16");
    ok(format_fallback(FORMAT_Q4_0, 40) == FORMAT_F16, "a 32-block falls to F16");
    ok(format_fallback(FORMAT_BF16, 3) == FORMAT_BF16, "a float format fits every row");
    ok(!format_fits(FORMAT_F32, 0), "an empty row fits nothing");
}

static void test_act_formats(void)
{
    bool known;
    ok(act_format_parse("a8", &known) == ACT_Q8 && known, "a8 is 8 bits a block");
    ok(act_format_parse("a16", &known) == ACT_FLOAT && known, "a16 is float");
    act_format_parse("a4", &known);
    ok(!known, "a4 is unknown");
    ok(act_format_of(FORMAT_Q4_0) == ACT_Q8 && act_format_of(FORMAT_BF16) == ACT_FLOAT,
       "activations have 8 bits exactly where the weight is quantized");
    ok(format_is_quantized(FORMAT_Q8_0) && !format_is_quantized(FORMAT_F16) &&
           !format_is_quantized(FORMAT_NONE),
       "F16 is not quantized, Q8_0 is");
}

int main(void)
{
    test_names();
    test_sizes();
    test_fallback();
    test_act_formats();
    return tap_done();
}
