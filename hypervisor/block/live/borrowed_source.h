// BorrowedSource: a BlockSource that somebody else owns, for what wants to own one.
#pragma once

#include <string>

#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor {

class BorrowedSource final : public qcow2::BlockSource {
public:
    explicit BorrowedSource(qcow2::BlockSource& source) : source_(source) {}
    const std::string& path() const override { return source_.path(); }
    uint64_t size() const override { return source_.size(); }
    qcow2::Task<int> read(qcow2::IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                          uint64_t size) override {
        return source_.read(port, offset, vectors, size);
    }
    qcow2::Task<int> map(qcow2::IoPort& port, uint64_t offset, uint64_t size,
                         qcow2::MappedExtent& extent) override {
        return source_.map(port, offset, size, extent);
    }
    qcow2::BlockSource* backing() override { return source_.backing(); }

private:
    qcow2::BlockSource& source_;
};

}  // namespace kumoi::hypervisor
