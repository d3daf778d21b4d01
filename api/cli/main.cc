#include <cstdio>

#include "base/version.h"

int main() {
    std::printf("kumoi %s\n", kumoi::kVersion);
    return 0;
}
