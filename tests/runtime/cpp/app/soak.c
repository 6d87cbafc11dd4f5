/* Run a bundle of token ids again and again, and open and close it again and again.
 *
 *     soak BUNDLE LIBRARY RUNS OPENINGS
 *
 * Every run switches the adapter, some are refused. Prints the resident KiB after a tenth and after
 * all of the runs, then after a tenth and after all of the openings. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edge_lra.h"

enum { ROWS = 2, TOKENS = 5, ADAPTERS = 3 };

static void must(edge_lra_code code) {
    if (code != EDGE_LRA_OK) {
        fprintf(stderr, "%s: %s\n", edge_lra_code_name(code), edge_lra_last_error());
        exit(1);
    }
}

static void must_fail(edge_lra_code code, edge_lra_code expected) {
    if (code != expected) {
        fprintf(stderr, "found code %d, expected %d\n", (int)code, (int)expected);
        exit(1);
    }
}

static long resident_kib(void) {
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = strtol(line + 6, NULL, 10);
        }
    }
    if (status != NULL) {
        fclose(status);
    }
    return kib;
}

static edge_lra_runner open_bundle(const char *bundle, const char *library) {
    edge_lra_open_options options = EDGE_LRA_INIT(edge_lra_open_options);
    options.ort_library = library;
    options.threads = 1;
    edge_lra_runner runner = 0;
    must(edge_lra_open(bundle, &options, &runner));
    return runner;
}

static void run_once(edge_lra_runner runner, long place) {
    static const char *const names[ADAPTERS] = {"one", "two", NULL};
    const int64_t shape[2] = {ROWS, TOKENS};
    int64_t ids[ROWS * TOKENS];
    int64_t mask[ROWS * TOKENS];
    for (int i = 0; i < ROWS * TOKENS; ++i) {
        ids[i] = (place + i) % 40;
        mask[i] = 1;
    }
    const edge_lra_tensor inputs[2] = {
        {"input_ids", EDGE_LRA_INT64, 2, shape, ids, sizeof ids},
        {"attention_mask", EDGE_LRA_INT64, 2, shape, mask, sizeof mask},
    };
    edge_lra_outputs outputs = 0;
    edge_lra_tensor hidden;
    must(edge_lra_set_adapter(runner, names[place % ADAPTERS]));
    must(edge_lra_run(runner, inputs, 2, NULL, &outputs));
    must(edge_lra_outputs_find(outputs, "hidden", &hidden));
    if (hidden.rank != 3 || hidden.shape[0] != ROWS || hidden.size % sizeof(float) != 0) {
        fputs("found other outputs\n", stderr);
        exit(1);
    }
    must(edge_lra_outputs_close(outputs));
    if (place % 10 == 0) {
        ids[3] = 4000;
        must_fail(edge_lra_run(runner, inputs, 2, NULL, &outputs), EDGE_LRA_INVALID_ARGUMENT);
        must_fail(edge_lra_run(runner, inputs, 1, NULL, &outputs), EDGE_LRA_INVALID_ARGUMENT);
    }
}

int main(int count, char **words) {
    if (count != 5) {
        fputs("usage: soak BUNDLE LIBRARY RUNS OPENINGS\n", stderr);
        return 2;
    }
    const long runs = strtol(words[3], NULL, 10);
    const long openings = strtol(words[4], NULL, 10);
    edge_lra_runner runner = open_bundle(words[1], words[2]);
    for (long place = 0; place < runs; ++place) {
        run_once(runner, place);
        if (place == runs / 10) {
            printf("%ld ", resident_kib());
        }
    }
    printf("%ld\n", resident_kib());
    must(edge_lra_close(runner));
    for (long place = 0; place < openings; ++place) {
        runner = open_bundle(words[1], words[2]);
        run_once(runner, place);
        must(edge_lra_close(runner));
        must_fail(edge_lra_close(runner), EDGE_LRA_CLOSED);
        if (place == openings / 10) {
            printf("%ld ", resident_kib());
        }
    }
    printf("%ld\n", resident_kib());
    return 0;
}
