#include "CEdgeLRA.h"

struct OrtApiBase;
extern const struct OrtApiBase *OrtGetApiBase(void);

const void *edge_lra_onnxruntime_entry(void) { return OrtGetApiBase(); }
