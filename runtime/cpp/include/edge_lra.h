/* edge_lra.h: run an edge-lra bundle and its adapters with onnxruntime, from any language.
 *
 *     edge_lra_runner runner = 0;
 *     if (edge_lra_open("sentiment.edge", NULL, &runner) != EDGE_LRA_OK)
 *         puts(edge_lra_last_error());
 *
 * Errors. Every function that can fail returns an edge_lra_code. Its line,
 * `where: found ..., expected ...; remedy`, is edge_lra_last_error() on the same thread until that
 * thread calls again. No exception crosses this interface, and outputs are untouched by a failure
 * (0 for handles).
 *
 * Handles are numbers, never reused; 0 is none. A handle that was closed, or never was one, gives
 * EDGE_LRA_CLOSED and nothing worse.
 *
 * Threads. Every function may be called from any thread. Runs, generations and set_adapter on one
 * runner may overlap; a run uses the default adapter of the moment it begins. Closing a runner
 * while others use it lets their calls end; later calls get EDGE_LRA_CLOSED. One set of outputs
 * may be read by many threads, and must not be closed while one of them still reads its data.
 * Callbacks are called on the calling thread. The first open of a process loads onnxruntime and
 * sets ORT_DISABLE_TELEMETRY in the environment unless it is set: like setenv, that must not
 * overlap with another thread's getenv.
 *
 * Memory. Text is UTF-8. What a caller passes in is read during the call alone.
 *
 * Options begin with struct_size, which the caller sets to sizeof of its struct: fields that a
 * newer library adds behind those read as 0, the default. EDGE_LRA_INIT(type) does both.
 */
#ifndef EDGE_LRA_H
#define EDGE_LRA_H

/* NOLINTBEGIN(modernize-*): C, too */

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(EDGE_LRA_SHARED)
#ifdef EDGE_LRA_BUILDING
#define EDGE_LRA_API __declspec(dllexport)
#else
#define EDGE_LRA_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define EDGE_LRA_API __attribute__((visibility("default")))
#else
#define EDGE_LRA_API
#endif

#ifdef __cplusplus
template <class T>
T edge_lra_init() {
    T options{};
    options.struct_size = sizeof(T);
    return options;
}
#define EDGE_LRA_INIT(type) (edge_lra_init<type>())
extern "C" {
#else
#define EDGE_LRA_INIT(type) ((type){.struct_size = sizeof(type)})
#endif

/* Rises when a program that was compiled against an older header must be compiled again. */
#define EDGE_LRA_ABI_VERSION 1

typedef enum edge_lra_code {
    EDGE_LRA_OK = 0,
    EDGE_LRA_INVALID_ARGUMENT = 1, /* an input, option or adapter name is not what is expected */
    EDGE_LRA_NOT_FOUND = 2,        /* no bundle, file or onnxruntime there */
    EDGE_LRA_DAMAGED = 3,          /* other bytes than were exported, or malformed ones */
    EDGE_LRA_UNSUPPORTED = 4, /* a newer bundle, or an older onnxruntime, than this works with */
    EDGE_LRA_FOREIGN_ADAPTER = 5, /* the adapter was made for another base */
    EDGE_LRA_RUNTIME = 6,         /* onnxruntime failed */
    EDGE_LRA_OUT_OF_MEMORY = 7,
    EDGE_LRA_CLOSED = 8,      /* the handle was closed, or is none */
    EDGE_LRA_GATE_FAILED = 9, /* answers are further from the float model than allowed */
    EDGE_LRA_CODE_MAX = 0x7fffffff
} edge_lra_code;

/* Element types, by the names that numpy gives them in a manifest. */
typedef enum edge_lra_dtype {
    EDGE_LRA_FLOAT32 = 1,
    EDGE_LRA_FLOAT64 = 2,
    EDGE_LRA_FLOAT16 = 3,
    EDGE_LRA_BFLOAT16 = 4,
    EDGE_LRA_INT8 = 5,
    EDGE_LRA_INT16 = 6,
    EDGE_LRA_INT32 = 7,
    EDGE_LRA_INT64 = 8,
    EDGE_LRA_UINT8 = 9,
    EDGE_LRA_UINT16 = 10,
    EDGE_LRA_UINT32 = 11,
    EDGE_LRA_UINT64 = 12,
    EDGE_LRA_BOOL = 13, /* a byte, 0 or 1 */
    EDGE_LRA_DTYPE_MAX = 0x7fffffff
} edge_lra_dtype;

typedef uint64_t edge_lra_runner;  /* an opened bundle */
typedef uint64_t edge_lra_outputs; /* what a run gave */

/* A dense array in row-major order. */
typedef struct edge_lra_tensor {
    const char* name;
    edge_lra_dtype dtype;
    size_t rank;          /* how many axes */
    const int64_t* shape; /* their sizes */
    const void* data;     /* aligned for the dtype */
    size_t size;          /* bytes: the product of shape times the dtype's width */
} edge_lra_tensor;

/* When the files are compared with the hashes in the manifest. */
typedef enum edge_lra_verify {
    EDGE_LRA_VERIFY_ONCE = 0,   /* at the first open; then sizes and times, by a stamp */
    EDGE_LRA_VERIFY_ALWAYS = 1, /* at every open */
    EDGE_LRA_VERIFY_NEVER = 2,  /* for a bundle that the app's own package protects */
    EDGE_LRA_VERIFY_MAX = 0x7fffffff
} edge_lra_verify;

typedef struct edge_lra_open_options {
    size_t struct_size;
    const char* ort_library;  /* path of libonnxruntime; NULL: the environment's ONNXRUNTIME_LIB,
                                 else the platform's usual names (README.md) */
    int32_t threads;          /* within an operator, 1 to 1024; 0: onnxruntime's choice */
    edge_lra_verify verify;   /* default: once */
    const char* stamp_folder; /* where "once" remembers checks; NULL: the user's cache folder */
    int32_t context;          /* decoders: the most tokens of a row, 2 or more; 0: the model's */
} edge_lra_open_options;

/* Which adapter a call uses. */
typedef enum edge_lra_adapter_choice {
    EDGE_LRA_ADAPTER_DEFAULT = 0, /* of edge_lra_set_adapter, at first the manifest's default */
    EDGE_LRA_ADAPTER_NONE = 1,    /* factors off */
    EDGE_LRA_ADAPTER_NAMED = 2,   /* the one named beside */
    EDGE_LRA_ADAPTER_MAX = 0x7fffffff
} edge_lra_adapter_choice;

typedef struct edge_lra_run_options {
    size_t struct_size;
    edge_lra_adapter_choice choice;
    const char* adapter; /* where choice is named */
} edge_lra_run_options;

/* The ABI version of the library, to compare with EDGE_LRA_ABI_VERSION of the header. */
EDGE_LRA_API uint32_t edge_lra_abi_version(void);

/* The library's version, such as "0.1.0". */
EDGE_LRA_API const char* edge_lra_version(void);

/* What this thread's last failed call has to say, in one line; "" if none failed. */
EDGE_LRA_API const char* edge_lra_last_error(void);

/* The name of a code, such as "foreign_adapter". */
EDGE_LRA_API const char* edge_lra_code_name(edge_lra_code code);

/* Open the bundle in `folder` for the CPU.
 *
 * options: NULL for the defaults. runner: gets the handle.
 * NOT_FOUND, DAMAGED, UNSUPPORTED, OUT_OF_MEMORY, RUNTIME, INVALID_ARGUMENT. */
EDGE_LRA_API edge_lra_code edge_lra_open(const char* folder, const edge_lra_open_options* options,
                                         edge_lra_runner* runner);

/* Free a runner. CLOSED if it was already. */
EDGE_LRA_API edge_lra_code edge_lra_close(edge_lra_runner runner);

/* Set the adapter of calls that name none; NULL turns the factors off. Reads no file.
 *
 * INVALID_ARGUMENT lists the adapters. */
EDGE_LRA_API edge_lra_code edge_lra_set_adapter(edge_lra_runner runner, const char* name);

/* Describe a runner as JSON: inputs, outputs (name, dtype, shape), adapters, default_adapter, task,
 * problem_type, labels (by adapter's name; "" for those of none), decoder (bos, eos ids, context)
 * or null, onnxruntime. Free it with edge_lra_free_text. */
EDGE_LRA_API edge_lra_code edge_lra_describe(edge_lra_runner runner, char** json);

/* Run one batch.
 *
 * inputs: the manifest's, by name, in any order. Integers of any width serve as the manifest's and
 *     are converted where it is wider or the values fit; floats must have the manifest's dtype.
 *     Without token_type_ids they are zeros. A decoder reads whole prompts, without a past.
 * options: NULL for the default adapter. outputs: gets a handle, to be closed.
 * INVALID_ARGUMENT, FOREIGN_ADAPTER, DAMAGED (the adapter's file), RUNTIME, OUT_OF_MEMORY. */
EDGE_LRA_API edge_lra_code edge_lra_run(edge_lra_runner runner, const edge_lra_tensor* inputs,
                                        size_t count, const edge_lra_run_options* options,
                                        edge_lra_outputs* outputs);

/* How many outputs there are; 0 for a handle that is none. */
EDGE_LRA_API size_t edge_lra_outputs_count(edge_lra_outputs outputs);

/* Get an output by its place, in the order of the manifest; its memory lives until the close. */
EDGE_LRA_API edge_lra_code edge_lra_outputs_get(edge_lra_outputs outputs, size_t place,
                                                edge_lra_tensor* tensor);

/* Get an output by its name. INVALID_ARGUMENT lists the names. */
EDGE_LRA_API edge_lra_code edge_lra_outputs_find(edge_lra_outputs outputs, const char* name,
                                                 edge_lra_tensor* tensor);

/* Free the outputs. */
EDGE_LRA_API edge_lra_code edge_lra_outputs_close(edge_lra_outputs outputs);

/* Called with each new token; anything but 0 ends the generation. */
typedef int (*edge_lra_on_token)(int64_t token, void* context);

typedef struct edge_lra_generate_options {
    size_t struct_size;
    edge_lra_adapter_choice choice;
    const char* adapter;
    const int64_t* stop_tokens; /* ids that end the text; NULL: the manifest's eos_token_ids */
    size_t stop_count;          /* with stop_tokens: 0 for none */
    edge_lra_on_token on_token; /* NULL for none */
    void* context;              /* what on_token gets */
} edge_lra_generate_options;

typedef enum edge_lra_stopped_by {
    EDGE_LRA_STOP_TOKEN = 1,
    EDGE_LRA_MAX_TOKENS = 2,
    EDGE_LRA_CALLBACK = 3,
    EDGE_LRA_STOPPED_BY_MAX = 0x7fffffff
} edge_lra_stopped_by;

typedef struct edge_lra_generation {
    size_t struct_size;
    size_t count; /* new tokens, the stop token among them */
    edge_lra_stopped_by stopped_by;
    double prefill_s; /* seconds to read the prompt */
    double decode_s;  /* seconds from then on */
} edge_lra_generation;

/* Go on from a prompt of token ids with the likeliest token, again and again.
 *
 * prompt: `prompt_count` ids. tokens: gets at most `max_tokens` new ones. generation: may be NULL.
 * The prompt and max_tokens together must fit into the context.
 * INVALID_ARGUMENT, FOREIGN_ADAPTER, DAMAGED, RUNTIME (also for logits that are not numbers),
 * OUT_OF_MEMORY, UNSUPPORTED for a bundle that generates nothing. */
EDGE_LRA_API edge_lra_code edge_lra_generate(edge_lra_runner runner, const int64_t* prompt,
                                             size_t prompt_count, size_t max_tokens,
                                             const edge_lra_generate_options* options,
                                             int64_t* tokens, edge_lra_generation* generation);

typedef struct edge_lra_golden {
    size_t struct_size;
    size_t cases;                /* 0 where the bundle was exported without verification */
    double max_abs_error;        /* from the outputs recorded at export */
    double max_abs_error_float;  /* from the float model's */
    double recorded_error_float; /* what that was at export */
    double allowed_error_float;
    size_t decided; /* best labels that the float model chooses by more than that */
    size_t agreed;  /* of them, those that were chosen here */
} edge_lra_golden;

/* Run the golden vectors of the bundle and compare. `golden` is filled whenever they ran.
 *
 * GATE_FAILED: an answer is further from the float model than allowed, or a decoder finds another
 * token where one is clearly the likeliest. Others as edge_lra_run, NOT_FOUND. */
EDGE_LRA_API edge_lra_code edge_lra_verify_golden(edge_lra_runner runner, edge_lra_golden* golden);

typedef struct edge_lra_profile_options {
    size_t struct_size;
    int64_t batch;   /* texts; 0: 1 */
    int64_t tokens;  /* of each; 0: 128, or the most the model takes */
    int64_t context; /* decoders: time the token behind so many; 0: time prompts of the shape */
    int64_t runs;    /* timed; 0: as many as the median needs, within the budget */
    double budget_s; /* no new run after so long, once there are 5; 0: 5 */
    int64_t warmup;  /* runs before; 0: 2, negative: none */
    edge_lra_adapter_choice choice; /* DEFAULT: the default adapter, else the first */
    const char* adapter;
    int measure_switch; /* whether to time choosing another adapter */
} edge_lra_profile_options;

/* Measure a runner: latencies, loading, memory. Let nothing else run meanwhile.
 *
 * json: gets what edge-lra's agent answers to "measure" (README.md lists the keys; null for what is
 * not to be known here), and a summary: p50_ms, p90_ms, p95_ms, p99_ms, min_ms, mean_ms, runs.
 * Free it with edge_lra_free_text. Errors as edge_lra_run. */
EDGE_LRA_API edge_lra_code edge_lra_profile(edge_lra_runner runner,
                                            const edge_lra_profile_options* options, char** json);

/* Free a text that this library returned; NULL is fine. */
EDGE_LRA_API void edge_lra_free_text(char* text);

#ifdef __cplusplus
}
#endif

/* NOLINTEND(modernize-*) */

#endif
