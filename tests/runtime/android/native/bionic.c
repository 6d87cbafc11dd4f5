/* Android's C library, as much of it as the JNI library of onnxruntime's AAR asks for, on glibc.
 *
 * The AAR's x86-64 build of libonnxruntime4j_jni.so is plain C. It wants libc.so, libm.so and
 * libdl.so with symbols of the version LIBC: this file is built under each of these names, so that
 * a desktop's Java runs the very code between Java and onnxruntime that a phone runs.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

static void *host(const char *name) {
    void *libc = dlopen("libc.so.6", RTLD_NOW);
    void *found = libc ? dlsym(libc, name) : NULL;
    if (!found) abort();
    return found;
}

/* By dlsym: a call of glibc's own name from here would be linked to the one that is defined here. */
#define FORWARD(result, name, parameters, arguments)              \
    result bionic_##name parameters {                             \
        static result(*real) parameters;                          \
        if (!real) *(void **)&real = host(#name);                 \
        return real arguments;                                    \
    }                                                             \
    __asm__(".symver bionic_" #name "," #name "@@LIBC");

FORWARD(void *, malloc, (size_t size), (size))
FORWARD(void *, realloc, (void *old, size_t size), (old, size))
FORWARD(void, free, (void *old), (old))
FORWARD(void *, memcpy, (void *to, const void *from, size_t size), (to, from, size))
FORWARD(size_t, strlen, (const char *text), (text))
FORWARD(int, dlclose, (void *library), (library))
FORWARD(void, __stack_chk_fail, (void), ())
FORWARD(int, __cxa_atexit, (void (*call)(void *), void *argument, void *library),
        (call, argument, library))
FORWARD(void, __cxa_finalize, (void *library), (library))
FORWARD(int, __register_atfork,
        (void (*prepare)(void), void (*parent)(void), void (*child)(void), void *library),
        (prepare, parent, child, library))
