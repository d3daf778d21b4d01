// kumoi-sim: the simulator's program. The engine comes with its own issue; until then it tells its
// version and says so.
#include <cstdio>
#include <cstring>

#include "base/version.h"

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
        std::printf("kumoi-sim %s\n", kumoi::kVersion);
        return 0;
    }
    std::fprintf(stderr, "kumoi-sim %s: the simulator is not there yet; only --version works\n",
                 kumoi::kVersion);
    return 2;
}
