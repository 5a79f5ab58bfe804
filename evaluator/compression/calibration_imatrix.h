/* calibration_imatrix.h - a calibration from an importance matrix (imatrix.h), and one back.
 *
 * A weight's entry names the inputs of its site: q, k and v have one input, gate and up too.  Where
 * a file has more than one of them they must agree; one is enough.
 *
 * The calibration that comes of it is diagonal (calibration.h): the file knows nothing of how inputs
 * go together, nor their means, nor what a unit changes. */
#ifndef KERF_CALIBRATION_IMATRIX_H
#define KERF_CALIBRATION_IMATRIX_H

#include "evaluator/compression/calibration.h"
#include "evaluator/compression/imatrix.h"

/* Of the parent with that hash.  ERR_DATA naming the entry: one that the parent needs is missing, of
 * another width, or not that of its neighbours; or the matrix is of another model. */
struct calibration *calibration_of_imatrix(const struct imatrix *matrix,
                                           const struct parent *parent,
                                           const struct hash256 *parent_hash, struct err *err);

/* The calibration in the file at `path` when it is of that parent and that importance matrix, else
 * one that is made of them (calibration_ensure).  The codes of imatrix_read and file.h as well. */
int calibration_ensure_imatrix(const char *path, const char *matrix_path,
                               const struct parent *parent, const struct hash256 *parent_hash,
                               enum calibration_origin *origin, struct err *err);

/* The diagonals, for each matrix of each layer.
 *   chunk    tokens of a sequence
 *   dataset  name of the text, cut where it is too long */
int calibration_to_imatrix(const struct calibration *calibration, const struct parent *parent,
                           uint32_t chunk, const char *dataset, struct imatrix *matrix,
                           struct err *err);

#endif
