/* basis_parent.h - the parent in another basis of the residual stream (basis.h) as a parent of its
 * own: a GGUF with d_model = k and an output matrix, and a calibration that belongs to it.
 * Everything behind sees simply a parent of another geometry.  Two files in a folder:
 *   parent.gguf      arrays by layer (architecture `deci`), no tokenizer; F16, which rounds a
 *                    weight 16 times finer than BF16 and takes half of what F32 would
 *   calibration.bin  in closed form from the parent's: the moments at the inputs of qkv, gate/up
 *                    and head are turned, those of o and down stay (they are exact for a rotation;
 *                    in a narrower model they are those of the units before it got narrower)
 * Both carry the identity: algorithm version, parent, calibration, width and rotation. */
#ifndef KERF_BASIS_PARENT_H
#define KERF_BASIS_PARENT_H

#include "evaluator/compression/basis.h"

#define BASIS_PARENT_NAME      "parent.gguf"
#define BASIS_CALIBRATION_NAME "calibration.bin"

/* What the files of a basis are known by. */
struct hash256 basis_parent_identity(const struct calibration *calibration, uint32_t hidden,
                                     enum rotation rotation);

/* Make both files in `folder` (made when absent), atomically each, the calibration last.  `format`:
 * of the matrices.  Memory: the new parent's bytes and a calibration.  ERR_DATA naming the tensor
 * of a weight that the format cannot hold; the codes of file_draft_commit. */
int basis_parent_make(const struct parent *parent, const struct calibration *calibration,
                      const struct basis *basis, enum format format, const char *folder,
                      struct err *err);

/* Another way to derive is another version. */
uint32_t basis_parent_version(void);

/* Whether the file is the parent in that basis (it carries the identity). */
bool basis_parent_is(const struct parent *parent, const struct hash256 *identity);

#endif
