/* The C interface of the runner, for Swift. */
#ifndef CEDGELRA_H
#define CEDGELRA_H

#include "../../../cpp/include/edge_lra.h"

/* The entry of onnxruntime. To refer to it keeps the linker from leaving a static onnxruntime out:
 * the runner looks for this function in the process by its name. */
const void *edge_lra_onnxruntime_entry(void);

#endif
