#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "edge_lra.h"
#include "failure.h"
#include "options.h"
#include "verbs.h"

namespace {

using namespace edge_lra;  // NOLINT(google-build-using-namespace): a program of this library

constexpr int mistake = 1;
constexpr int usage = 2;

int act(const std::vector<std::string>& words) {
    const std::map<std::string, int (*)(const Command&)> verbs{{"run", run_tensors},
                                                               {"verify", verify_bundle},
                                                               {"profile", profile_bundle},
                                                               {"generate", generate_tokens},
                                                               {"cases", run_cases}};
    for (const std::string& word : words) {
        if (word == "--help" || word == "-h") {
            (void)std::fputs(help_text, stdout);  // the flush at the end tells of a failure
            return done;
        }
        if (word == "--version") {
            (void)std::printf("edge-lra-run %s\n", edge_lra_version());
            return done;
        }
    }
    const Command command = read_command(words);
    return verbs.at(command.verb)(command);
}

int complain(const char* line, int code) {
    (void)std::fflush(stdout);
    (void)std::fprintf(stderr, "Error: %s\n", line);
    return code;
}

}  // namespace

int main(int count, char** words) {
    try {
        const int code = act({words + (count > 0 ? 1 : 0), words + count});
        if (std::fflush(stdout) != 0) {
            return complain("output: cannot be written; check where it goes", mistake);
        }
        return code;
    } catch (const Usage& error) {
        return complain((std::string(error.what()) + "; see --help").c_str(), usage);
    } catch (const Failure& failure) {
        return complain(failure.what(),
                        failure.code() == EDGE_LRA_GATE_FAILED ? check_failed : mistake);
    } catch (const std::bad_alloc&) {
        return complain("memory: found none left; free some, or give a smaller --shape", mistake);
    } catch (const std::exception& error) {
        return complain(error.what(), mistake);
    }
}
