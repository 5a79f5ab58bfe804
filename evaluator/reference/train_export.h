/* train_export.h - the trained model as a GGUF that stock engines load (architecture `llama`,
 * matrices in BF16, norms in F32, tensor and key names as llama.cpp spells them). */
#ifndef TRAIN_EXPORT_H
#define TRAIN_EXPORT_H

#include "evaluator/reference/train_geometry.h"

struct err;
struct gguf;

/* weights[n_params] as in train_geometry.h.  Every key tokenizer.* of `vocab` is copied; NULL
 * leaves the tokenizer out (only tests do).  The embedding is also the output matrix, so there is
 * no output.weight.  Codes of gguf_writer_save. */
int train_export(const char *path, const struct train_geometry *g, const float *weights,
                 const struct gguf *vocab, struct err *err);

#endif
