// What a transfer's peer may send: frames in pieces of any size, and their bodies.
#include <cstddef>
#include <cstdint>

#include "migration/transfer/frame.h"
#include "migration/transfer/manifest.h"

using namespace kumoi::transfer;

namespace {

void read_body_of(const Frame& frame) {
    (void)check_hello(frame);
    if (const auto request = parse_read(frame); request.ok()) {
        if (request->offset % kBlockSize != 0) {
            __builtin_trap();
        }
    }
    if (const auto data = parse_data(frame); data.ok()) {
        if (data->bytes.empty() || data->bytes.size() > kBlockSize) {
            __builtin_trap();
        }
    }
    (void)parse_end(frame);
    if (frame.kind == FrameKind::Manifest) {
        const auto manifest = Manifest::parse(frame.body);
        if (manifest.ok()) {
            const auto again = Manifest::parse(manifest->text());
            if (!again.ok() || !(*again == *manifest)) {
                __builtin_trap();
            }
            for (const ManifestFile& file : manifest->files) {
                if (file.name.find('/') != std::string::npos || file.name[0] == '.') {
                    __builtin_trap();
                }
            }
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) {
        return 0;
    }
    FrameReader reader(kManifestMax);
    const size_t piece = data[0] + size_t{1};
    for (size_t at = 1; at < size; at += piece) {
        const size_t count = std::min(piece, size - at);
        reader.push(std::as_bytes(std::span(data + at, count)));
        while (true) {
            const auto frame = reader.next();
            if (!frame.ok()) {
                return 0;
            }
            if (!*frame) {
                break;
            }
            read_body_of(**frame);
        }
    }
    return 0;
}
