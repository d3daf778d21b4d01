// FwCfg's section.
#include "hypervisor/board/fw_cfg.h"

namespace kumoi::hypervisor {

namespace {

// Fields of the sections; never reused.
enum Field : uint16_t {
    kFieldSelected = 1,
    kFieldPosition = 2,
    kFieldDmaAddress = 3,
    kFieldFiles = 4,
};
enum FileField : uint16_t { kFieldBytes = 1 };
constexpr uint64_t kPositionMax = UINT32_MAX;

}  // namespace

void FwCfg::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.u64(kFieldSelected, selected_).u64(kFieldPosition, position_);
    out.u64(kFieldDmaAddress, dma_address_);
    for (const auto& [name, key] : files_) {
        const Item& item = items_.at(key);
        if (item.writable) {
            SectionWriter file(name, 1);
            file.bytes(kFieldBytes, std::as_bytes(std::span(item.bytes)));
            out.group(kFieldFiles, file);
        }
    }
}

Result<void> FwCfg::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    for (SectionReader& file : TRY(in.groups(kFieldFiles, kFilesMax))) {
        const auto found = files_.find(file.name());
        if (found == files_.end() || !items_.at(found->second).writable) {
            return Error::make(ErrorCode::Unsupported,
                               "the guest has written the fw_cfg file {}, which this machine does "
                               "not have",
                               file.name());
        }
        Item& item = items_.at(found->second);
        const auto bytes = TRY(file.bytes(kFieldBytes, item.bytes.size()));
        item.bytes.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        TRY(file.finish());
        if (item.written && item.bytes != item.initial) {
            item.written(item.bytes);  // the machine learns again what the guest had told it
        }
    }
    selected_ = TRY(in.u16(kFieldSelected));
    position_ = static_cast<uint32_t>(TRY(in.u64_max(kFieldPosition, kPositionMax)));
    dma_address_ = TRY(in.u64(kFieldDmaAddress));
    return {};
}

}  // namespace kumoi::hypervisor
