// Fuzzes the section reader: any bytes are a body; every getter is asked for the ids that occur.

#include <algorithm>

#include "hypervisor/snapshot/section.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

constexpr int kDepthMax = 8;
struct Structure {
    uint64_t words[4];
};

void read_all(SectionReader& reader, int depth) {
    for (uint32_t id = 0; id < 16; ++id) {
        for (const uint32_t base : {0u, uint32_t{kSectionMustUnderstand}}) {
            const auto field = static_cast<uint16_t>(base + id);
            (void)reader.has(field);
            (void)reader.u64(field);
            (void)reader.u8(field);
            (void)reader.flag(field);
            (void)reader.u64_or(field, 1);
            (void)reader.bytes(field);
            (void)reader.text(field);
            (void)reader.object<Structure>(field);
            auto groups = reader.groups(field, 64);
            if (groups && depth < kDepthMax) {
                for (SectionReader& group : *groups) {
                    read_all(group, depth + 1);
                }
            }
        }
    }
    (void)reader.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto reader = SectionReader::parse("fuzz", 1, std::as_bytes(std::span(data, size)));
    if (reader) {
        read_all(*reader, 0);
    }
    return 0;
}
