#include <cstdio>

#include "base/version.h"

int main() {
    std::printf("kumoi-compute %s\n", kumoi::kVersion);
    return 0;
}
