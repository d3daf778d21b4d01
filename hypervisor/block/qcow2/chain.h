// Opening an image with its backing files. Names are resolved as QEMU does: relative to the folder
// of the image that names them. A backing file must say its format; it is never guessed, because a
// guest with a raw disk can write whatever header it likes. Depth is limited and loops are refused.
// Every descriptor comes from a FileSource, so a sandboxed process reaches only what it was given.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/block/qcow2/block_source.h"
#include "hypervisor/block/qcow2/store.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor::qcow2 {

inline constexpr uint32_t kChainDepthMax = 32;

struct ChainOptions {
    StoreOptions store;
    bool direct = false;                  // O_DIRECT for guest data
    uint32_t depth_max = kChainDepthMax;  // backing files
    std::string backing_format;           // for an image that does not say: "raw" or "qcow2"
    bool lock = true;
};

struct ChainEntry {
    std::string path;
    std::string format;  // "raw" or "qcow2"
};

// `port` completes at once.
Result<std::unique_ptr<Store>> open_chain(FileSource& files, IoPort& port, const std::string& path,
                                          const ChainOptions& options);
// A backing file (or a source of a copy), read-only.
Result<std::unique_ptr<BlockSource>> open_source(FileSource& files, IoPort& port,
                                                 const ChainEntry& entry,
                                                 const ChainOptions& options);
// The files below `path`, nearest first, by their headers alone: what a launcher must open.
Result<std::vector<ChainEntry>> backing_chain(FileSource& files, const std::string& path,
                                              uint32_t depth_max = kChainDepthMax,
                                              const std::string& backing_format = {});
// "file:" is taken off, other protocols are refused.
Result<std::string> resolve_backing(const std::string& image, const std::string& backing);

// One writer, or any number of readers, until the file is closed; also changes one into the other.
Result<void> lock_host_file(const HostFile& file, bool writable);
void unlock_host_file(const HostFile& file);

Result<std::unique_ptr<HostFile>> open_host_file(FileSource& files, const std::string& path,
                                                 bool writable, bool direct, bool lock);

}  // namespace kumoi::hypervisor::qcow2
