/* libonnxruntime.so as the AAR's JNI library wants it, over the library of the Python package.
 *
 * Both have the same C interface; only the version of the symbols differs. The environment's
 * ONNXRUNTIME_LIB says where the library is.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *find(const char *name) {
    const char *path = getenv("ONNXRUNTIME_LIB");
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "%s: not found in ONNXRUNTIME_LIB=%s\n", name, path ? path : "");
        abort();
    }
    return found;
}

const void *OrtGetApiBase(void) {
    const void *(*real)(void);
    *(void **)&real = find(__func__);
    return real();
}

void *OrtSessionOptionsAppendExecutionProvider_CPU(void *options, int arena) {
    void *(*real)(void *, int);
    *(void **)&real = find(__func__);
    return real(options, arena);
}

/* Only Android's onnxruntime has it, and the runner never asks for it. */
void *OrtSessionOptionsAppendExecutionProvider_Nnapi(void *options, unsigned flags) {
    (void)options;
    (void)flags;
    abort();
}
