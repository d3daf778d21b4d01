// FwCfg: the firmware configuration device at ports 0x510-0x51b: numbered items and named files
// that the machine shows its firmware (QEMU's docs/specs/fw_cfg.rst is the specification).
//
//     fw_cfg.add_item(FwCfg::kCpuCount, le16(2));
//     TRY(fw_cfg.add_file("etc/e820", map));
//     TRY(fw_cfg.add_generated("etc/acpi/tables", size, [this] { return tables(); }));
//
// Selected by a 16-bit write to 0x510, read byte by byte at 0x511, or moved whole by DMA: the guest
// writes the address of a control block, big-endian, to 0x514. The file directory is item 0x19,
// sorted by name. A generated file has a fixed size and is made anew whenever it is selected: ACPI
// tables know then where the firmware put ECAM. A writable file takes DMA writes.
// Items are added before the guest runs. Threads: ports by any vCPU thread; one lock, held while
// `generate` and `written` run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/board/io_bus.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

class FwCfg final : public IoDevice, public Snapshottable {
public:
    static constexpr uint16_t kSignature = 0x00;
    static constexpr uint16_t kId = 0x01;
    static constexpr uint16_t kUuid = 0x02;
    static constexpr uint16_t kRamSize = 0x03;
    static constexpr uint16_t kNoGraphic = 0x04;
    static constexpr uint16_t kCpuCount = 0x05;
    static constexpr uint16_t kNuma = 0x0d;
    static constexpr uint16_t kBootMenu = 0x0e;
    static constexpr uint16_t kCpuCountMax = 0x0f;
    static constexpr uint16_t kDirectory = 0x19;
    static constexpr uint16_t kFileFirst = 0x20;
    static constexpr uint16_t kLegacyAcpi = 0x8000;
    static constexpr uint16_t kLegacySmbios = 0x8001;
    static constexpr uint16_t kLegacyIrq0 = 0x8002;
    static constexpr uint16_t kLegacyE820 = 0x8003;
    static constexpr size_t kFilesMax = 256;
    static constexpr size_t kFileNameMax = 55;
    static constexpr uint32_t kDmaBytesMax = 64u << 20;  // of one request; no file is larger

    explicit FwCfg(GuestMemory& memory);

    void add_item(uint16_t key, std::string bytes);
    Result<void> add_file(const std::string& name, std::string bytes);
    Result<void> add_generated(const std::string& name, uint32_t size,
                               std::function<std::string()> generate);
    Result<void> add_writable(const std::string& name, std::string bytes,
                              std::function<void(const std::string&)> written);

    std::string name() const override { return "fw_cfg"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    void reset();
    // The selector and what the guest has written. Other files follow from the configuration.
    std::string section_name() const override { return "fw_cfg"; }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;
    // What the guest left in a writable file, or what the machine put into any other.
    Result<std::string> file(const std::string& name) const;

private:
    struct Item {
        std::string bytes;
        std::string initial;  // of a writable file: what a reset puts back
        std::function<std::string()> generate;
        std::function<void(const std::string&)> written;
        bool writable = false;
    };
    struct Dma;
    Result<void> add(const std::string& name, Item item);
    void rebuild_directory();
    void select(uint16_t key);
    uint8_t next_byte();
    void run_dma();
    bool dma_transfer(const Dma& dma);
    bool dma_read(const Dma& dma);
    bool dma_write(const Dma& dma);

    GuestMemory& memory_;
    ReportLimit reports_;
    mutable std::mutex mutex_;               // guards all below
    std::map<uint16_t, Item> items_;         // the directory is one of them
    std::map<std::string, uint16_t> files_;  // name -> key, in directory order
    uint16_t selected_ = 0;
    uint32_t position_ = 0;
    uint64_t dma_address_ = 0;
};

}  // namespace kumoi::hypervisor
