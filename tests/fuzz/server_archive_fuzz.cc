// Archives of strangers: tar, OVF descriptors and manifests, VMDK descriptors, kumoi.json.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <string_view>

#include "api/cli/archive/manifest.h"
#include "api/cli/archive/ovf.h"
#include "api/cli/archive/tar.h"
#include "api/cli/archive/vmdk_check.h"
#include "base/fd.h"

using namespace kumoi::cli;  // NOLINT: one file

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0] % 4) {
        case 0: (void)read_ovf(text); break;
        case 1:
            (void)read_ovf_manifest(text);
            (void)check_vmdk_descriptor(text);
            break;
        case 2: (void)read_manifest(text); break;
        default: {
            const kumoi::UniqueFd fd(memfd_create("archive", MFD_CLOEXEC));
            if (write(fd.get(), text.data(), text.size()) < 0 || lseek(fd.get(), 0, SEEK_SET) < 0) {
                return 0;
            }
            TarReader reader(fd.get());
            std::array<std::byte, 700> buffer;
            while (true) {
                const auto entry = reader.next();
                if (!entry || !entry->has_value() || !reader.read(buffer)) {
                    break;
                }
            }
        }
    }
    return 0;
}
