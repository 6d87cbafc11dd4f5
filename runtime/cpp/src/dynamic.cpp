#include "dynamic.h"

#include <cstdlib>

#include "files.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace edge_lra {

#ifdef _WIN32

void* find_in_library(const std::string& path, const char* function, std::string& reason) {
    HMODULE library = LoadLibraryW(path_of(path).c_str());
    void* found = library ? reinterpret_cast<void*>(GetProcAddress(library, function)) : nullptr;
    if (found == nullptr) {
        reason = "Windows error " + std::to_string(GetLastError());
    }
    return found;
}

void* find_in_process(const char* function) {
    return reinterpret_cast<void*>(GetProcAddress(GetModuleHandleW(nullptr), function));
}

void set_unless_set(const char* variable, const char* value) {
    if (std::getenv(variable) == nullptr) {
        _putenv_s(variable, value);
    }
}

#else

void* find_in_library(const std::string& path, const char* function, std::string& reason) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* found = library != nullptr ? dlsym(library, function) : nullptr;
    if (found == nullptr) {
        const char* error = dlerror();
        reason = error != nullptr ? error : "it has no such function";
    }
    return found;
}

void* find_in_process(const char* function) {
    return dlsym(RTLD_DEFAULT, function);
}

void set_unless_set(const char* variable, const char* value) {
    setenv(variable, value, 0);
}

#endif

}  // namespace edge_lra
