// BlockSource: what an overlay reads through where it has no data of its own: another qcow2 image
// or a raw file. Any thread, each with its own port.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "hypervisor/block/qcow2/io_port.h"
#include "hypervisor/block/qcow2/task.h"

namespace kumoi::hypervisor::qcow2 {

enum class ExtentKind { Unallocated, Zero, Data, Compressed, Bad };

// A stretch of the virtual disk with one state.
struct MappedExtent {
    uint64_t offset = 0;
    uint64_t size = 0;
    ExtentKind kind = ExtentKind::Unallocated;
    uint64_t host = 0;   // Data: in `file`
    uint32_t depth = 0;  // 0: this image, 1: its backing file, ...
};

class BlockSource {
public:
    virtual ~BlockSource() = default;
    virtual const std::string& path() const = 0;
    virtual uint64_t size() const = 0;
    // Inside [0, size()). 0 or a negative errno.
    virtual Task<int> read(IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                           uint64_t size) = 0;
    // What begins at `offset`, at most `size` long; of this image alone.
    virtual Task<int> map(IoPort& port, uint64_t offset, uint64_t size, MappedExtent& extent) = 0;
    virtual BlockSource* backing() = 0;
};

// A raw backing file.
class RawSource final : public BlockSource {
public:
    explicit RawSource(std::unique_ptr<HostFile> file)
        : file_(std::move(file)), size_(file_->size) {}
    const std::string& path() const override { return file_->path; }
    uint64_t size() const override { return size_; }
    Task<int> read(IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                   uint64_t size) override;
    Task<int> map(IoPort& port, uint64_t offset, uint64_t size, MappedExtent& extent) override;
    BlockSource* backing() override { return nullptr; }

private:
    std::unique_ptr<HostFile> file_;
    const uint64_t size_;
};

}  // namespace kumoi::hypervisor::qcow2
