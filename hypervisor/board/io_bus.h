// IoBus: finds the device behind a port or MMIO address. One bus for ports, one for memory.
//
// Threading: read() and write() are called by any vCPU thread, several at once; a device must do
// its own locking. add() and remove() may be called at any time (BAR moves) and wait for no access:
// a device object must outlive every access, so the machine removes it and joins the vCPUs first,
// or keeps the object until the machine ends.
#pragma once

#include <cstdint>
#include <map>
#include <shared_mutex>
#include <span>
#include <string>

#include "base/result.h"

namespace kumoi::hypervisor {

class IoDevice {
public:
    virtual ~IoDevice() = default;
    virtual std::string name() const = 0;
    // `offset` from the range's base; data is 1, 2, 4 or 8 bytes, little endian. Any offset and
    // width may come: the guest chooses. Unknown registers read as all ones and ignore writes.
    virtual void io_read(uint64_t offset, std::span<uint8_t> data) = 0;
    virtual void io_write(uint64_t offset, std::span<const uint8_t> data) = 0;
};

class IoBus {
public:
    // Refuses a range that overlaps another, naming both.
    Result<void> add(uint64_t base, uint64_t size, IoDevice& device);
    void remove(uint64_t base);
    // False when nothing is there: data then holds all ones (read), or the write went nowhere.
    bool read(uint64_t address, std::span<uint8_t> data);
    bool write(uint64_t address, std::span<const uint8_t> data);

private:
    struct Range {
        uint64_t size;
        IoDevice* device;
    };
    const Range* find(uint64_t address, uint64_t& offset) const;
    mutable std::shared_mutex mutex_;
    std::map<uint64_t, Range> ranges_;
};

}  // namespace kumoi::hypervisor
