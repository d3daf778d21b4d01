#include "hypervisor/board/gpe_block.h"

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

constexpr uint64_t kHalf = board::kGpe0Size / 2;  // status bytes, then as many enable bytes

// Events from 16 on do not exist: their bits read as zero and stay so.
void GpeBlock::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        const uint64_t at = offset + i;
        const uint16_t word = at < kHalf ? state_.status : state_.enable;
        const uint64_t index = at % kHalf;
        data[i] = index < sizeof word ? static_cast<uint8_t>(word >> (8 * index)) : uint8_t{0};
    }
}

void GpeBlock::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        const uint64_t at = offset + i;
        const uint64_t index = at % kHalf;
        if (index >= sizeof(state_.status)) {
            continue;
        }
        const auto shift = static_cast<unsigned>(8 * index);
        if (at < kHalf) {  // status bits clear by writing 1
            state_.status &= static_cast<uint16_t>(~(unsigned{data[i]} << shift));
        } else if (at < 2 * kHalf) {
            state_.enable = static_cast<uint16_t>((state_.enable & ~(0xffu << shift)) |
                                                  unsigned{data[i]} << shift);
        }
    }
    update();
}

void GpeBlock::raise(unsigned event) {
    const std::lock_guard lock(mutex_);
    state_.status |= static_cast<uint16_t>(1u << event);
    update();
}

bool GpeBlock::enabled(unsigned event) {
    const std::lock_guard lock(mutex_);
    return (state_.enable >> event & 1) != 0;
}

void GpeBlock::reset() {
    set_state({});
}

GpeBlock::State GpeBlock::state() {
    const std::lock_guard lock(mutex_);
    return state_;
}

void GpeBlock::set_state(State state) {
    const std::lock_guard lock(mutex_);
    state_ = state;
    update();
}

void GpeBlock::update() {
    sci_((state_.status & state_.enable) != 0);
}

}  // namespace kumoi::hypervisor
