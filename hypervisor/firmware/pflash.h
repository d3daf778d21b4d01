// Pflash: a parallel NOR flash chip with Intel's command set (CFI 01), 8 bits wide, in 4 KiB
// blocks: where OVMF keeps its variables.
//
// While the chip is in read-array mode the guest reads its content as memory (a read-only mapping)
// and only writes come here. A command takes the mapping away, so reads come here, too, until the
// guest goes back to read-array mode. Then everything programmed or erased since is written to the
// file and made durable: a variable that the guest has seen written survives the host's power cut.
// Programming overwrites, erased or not, as QEMU's chip does and OVMF was tested with. Status reads
// 0 after "clear status": OVMF takes that for the sign of a flash chip. Threads: accesses by any
// vCPU thread, reset() by the loop with vCPUs parked; one lock.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/metrics.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

// Where the chip's content lasts.
class PflashStore {
public:
    virtual ~PflashStore() = default;
    // Durable when it returns.
    virtual Result<void> write(uint64_t offset, std::span<const std::byte> bytes) = 0;
};

class Pflash final : public IoDevice, public Snapshottable {
public:
    static constexpr uint64_t kBlockSize = 4096;
    static constexpr size_t kWriteBufferSize = 2048;

    // `content`: page-aligned memory that outlives the chip. Mapped and on the bus at `base` at
    // once.
    static Result<std::unique_ptr<Pflash>> create(Platform& platform, uint64_t base,
                                                  std::span<std::byte> content, PflashStore& store);
    ~Pflash() override;

    std::string name() const override { return "nvram"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    void reset();  // to read-array mode; what was programmed stays
    std::string section_name() const override { return "nvram"; }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;
    uint64_t write_failures() const { return write_failures_.value(); }

private:
    enum class Mode { Array, Status, Identifier, Query };
    Pflash(Platform& platform, uint64_t base, std::span<std::byte> content, PflashStore& store);
    uint8_t read_byte(uint64_t offset) const;
    void write_byte(uint64_t offset, uint8_t value);
    void first_cycle(uint64_t offset, uint8_t value);
    void second_cycle(uint64_t offset, uint8_t value);
    void buffer_cycle(uint64_t offset, uint8_t value);
    void program(uint64_t offset, std::span<const std::byte> bytes);
    void erase(uint64_t offset);
    void touched(uint64_t offset, uint64_t size);
    void set_mode(Mode mode);
    void enter_array_mode();
    void flush();
    bool map();

    Platform& platform_;
    const uint64_t base_;
    std::span<std::byte> content_;
    PflashStore& store_;
    Counter write_failures_;
    ReportLimit reports_;       // a guest changes modes as often as it likes
    mutable std::mutex mutex_;  // guards all below
    Mode mode_ = Mode::Array;
    uint8_t status_ = 0x80;     // ready
    uint8_t command_ = 0;       // waits for its next cycle; 0: none
    uint32_t buffer_left_ = 0;  // bytes the guest still owes of a buffered write
    uint64_t buffer_offset_ = 0;
    std::vector<std::byte> buffer_;
    uint64_t dirty_start_ = UINT64_MAX;
    uint64_t dirty_end_ = 0;
    std::unique_ptr<MappedMemory> mapping_;  // only in read-array mode
};

}  // namespace kumoi::hypervisor
