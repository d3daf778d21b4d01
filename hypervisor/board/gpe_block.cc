#include "hypervisor/board/gpe_block.h"

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

constexpr uint16_t kStatusField = 1;  // of the saved state
constexpr uint16_t kEnableField = 2;
constexpr uint64_t kHalf = board::kGpe0Size / 2;  // status bytes, then as many enable bytes

// Events from 16 on do not exist: their bits read as zero and stay so.
void GpeBlock::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        const uint64_t at = offset + i;
        const uint16_t word = at < kHalf ? status_ : enable_;
        const uint64_t index = at % kHalf;
        data[i] = index < sizeof word ? static_cast<uint8_t>(word >> (8 * index)) : uint8_t{0};
    }
}

void GpeBlock::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        const uint64_t at = offset + i;
        const uint64_t index = at % kHalf;
        if (index >= sizeof(status_)) {
            continue;
        }
        const auto shift = static_cast<unsigned>(8 * index);
        if (at < kHalf) {  // status bits clear by writing 1
            status_ &= static_cast<uint16_t>(~(unsigned{data[i]} << shift));
        } else if (at < 2 * kHalf) {
            enable_ =
                static_cast<uint16_t>((enable_ & ~(0xffu << shift)) | unsigned{data[i]} << shift);
        }
    }
    update();
}

void GpeBlock::raise(unsigned event) {
    const std::lock_guard lock(mutex_);
    status_ |= static_cast<uint16_t>(1u << event);
    update();
}

bool GpeBlock::enabled(unsigned event) {
    const std::lock_guard lock(mutex_);
    return (enable_ >> event & 1) != 0;
}

void GpeBlock::reset() {
    const std::lock_guard lock(mutex_);
    status_ = 0;
    enable_ = 0;
    update();
}

void GpeBlock::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.u64(kStatusField, status_).u64(kEnableField, enable_);
}

Result<void> GpeBlock::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    status_ = TRY(in.u16(kStatusField));
    enable_ = TRY(in.u16(kEnableField));
    update();
    return {};
}

void GpeBlock::update() {
    sci_((status_ & enable_) != 0);
}

}  // namespace kumoi::hypervisor
