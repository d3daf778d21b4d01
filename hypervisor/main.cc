#include <cstdio>

#include "base/version.h"

int main() {
    std::printf("kumoi-vmm %s\n", kumoi::kVersion);
    return 0;
}
