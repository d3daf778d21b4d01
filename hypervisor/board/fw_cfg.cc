#include "hypervisor/board/fw_cfg.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kSelectorOffset = 0;
constexpr uint64_t kDataOffset = 1;
constexpr uint64_t kDmaOffset = 4;
constexpr uint16_t kKeyMask = 0x3fff | 0x8000;  // bit 14 asked for a write; DMA replaced it
constexpr uint32_t kIdTraditional = 1u << 0;
constexpr uint32_t kIdDma = 1u << 1;
constexpr uint64_t kDmaSignature = 0x5145'4d55'2043'4647;  // "QEMU CFG", read at the DMA register

constexpr uint32_t kDmaError = 1u << 0;
constexpr uint32_t kDmaRead = 1u << 1;
constexpr uint32_t kDmaSkip = 1u << 2;
constexpr uint32_t kDmaSelect = 1u << 3;
constexpr uint32_t kDmaWrite = 1u << 4;

template <class T>
std::string big_endian(T value) {
    std::string bytes;
    for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8) {
        bytes += static_cast<char>(value >> shift);
    }
    return bytes;
}

uint64_t from_big_endian(std::span<const uint8_t> bytes) {
    uint64_t value = 0;
    for (const uint8_t byte : bytes) {
        value = value << 8 | byte;
    }
    return value;
}

}  // namespace

// The control block in guest memory, as it was read once.
struct FwCfg::Dma {
    uint32_t control;
    uint32_t length;
    uint64_t address;
};

FwCfg::FwCfg(GuestMemory& memory) : memory_(memory) {
    add_item(kSignature, "QEMU");  // what firmware looks for: the interface's name, not ours
    const uint32_t id = kIdTraditional | kIdDma;
    add_item(kId, {reinterpret_cast<const char*>(&id), sizeof id});
    rebuild_directory();
}

void FwCfg::add_item(uint16_t key, std::string bytes) {
    const std::lock_guard lock(mutex_);
    items_[key] = Item{std::move(bytes), {}, {}, {}, false};
}

Result<void> FwCfg::add_file(const std::string& name, std::string bytes) {
    return add(name, Item{std::move(bytes), {}, {}, {}, false});
}

Result<void> FwCfg::add_generated(const std::string& name, uint32_t size,
                                  std::function<std::string()> generate) {
    return add(name, Item{std::string(size, '\0'), {}, std::move(generate), {}, false});
}

Result<void> FwCfg::add_writable(const std::string& name, std::string bytes,
                                 std::function<void(const std::string&)> written) {
    std::string initial = bytes;
    return add(name, Item{std::move(bytes), std::move(initial), {}, std::move(written), true});
}

Result<void> FwCfg::add(const std::string& name, Item item) {
    const std::lock_guard lock(mutex_);
    if (name.empty() || name.size() > kFileNameMax) {
        return Error::invalid("the fw_cfg file name \"{}\" has {} bytes; 1 to {} are possible",
                              name, name.size(), kFileNameMax);
    }
    if (files_.contains(name) || files_.size() >= kFilesMax) {
        return Error::conflict("the fw_cfg file {} exists, or there are {} already", name,
                               kFilesMax);
    }
    const auto key = static_cast<uint16_t>(kFileFirst + files_.size());
    files_[name] = key;
    items_[key] = std::move(item);
    rebuild_directory();
    return {};
}

// struct FWCfgFiles: a count, then size, key, two reserved bytes and a name of 56, big-endian.
void FwCfg::rebuild_directory() {
    std::string bytes = big_endian(static_cast<uint32_t>(files_.size()));
    for (const auto& [name, key] : files_) {
        bytes += big_endian(static_cast<uint32_t>(items_[key].bytes.size()));
        bytes += big_endian(key);
        bytes += std::string(2, '\0');
        std::string field = name;
        field.resize(kFileNameMax + 1, '\0');
        bytes += field;
    }
    items_[kDirectory] = Item{std::move(bytes), {}, {}, {}, false};
}

void FwCfg::select(uint16_t key) {
    selected_ = key & kKeyMask;
    position_ = 0;
    const auto found = items_.find(selected_);
    if (found == items_.end() || !found->second.generate) {
        return;
    }
    std::string bytes = found->second.generate();
    if (bytes.size() > found->second.bytes.size()) {
        if (const auto unreported = reports_.admit()) {  // each selection generates it anew
            log_error("fw_cfg", "a generated file outgrew its size and keeps its old content",
                      {{"key", selected_}, {"size", bytes.size()}, {"unreported", *unreported}});
        }
        return;
    }
    bytes.resize(found->second.bytes.size(), '\0');
    found->second.bytes = std::move(bytes);
}

uint8_t FwCfg::next_byte() {
    const auto found = items_.find(selected_);
    if (found == items_.end() || position_ >= found->second.bytes.size()) {
        return 0;  // past the end, and of what does not exist: zeros
    }
    return static_cast<uint8_t>(found->second.bytes[position_++]);
}

void FwCfg::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    if (offset == kDataOffset) {
        std::ranges::generate(data, [this] { return next_byte(); });
        return;
    }
    std::ranges::fill(data, uint8_t{0});
    for (size_t i = 0; offset >= kDmaOffset && i < data.size(); ++i) {
        const uint64_t at = offset - kDmaOffset + i;
        data[i] = at < 8 ? static_cast<uint8_t>(kDmaSignature >> (8 * (7 - at))) : uint8_t{0};
    }
}

void FwCfg::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    if (offset == kSelectorOffset && data.size() == 2) {
        select(static_cast<uint16_t>(data[0] | data[1] << 8));
    } else if (offset == kDmaOffset && data.size() == 4) {
        dma_address_ = from_big_endian(data) << 32;
    } else if (offset == kDmaOffset + 4 && data.size() == 4) {
        dma_address_ |= from_big_endian(data);
        run_dma();
    } else if (offset == kDmaOffset && data.size() == 8) {
        dma_address_ = from_big_endian(data);
        run_dma();
    }  // the data port takes no writes since DMA came
}

void FwCfg::run_dma() {
    const uint64_t block = std::exchange(dma_address_, uint64_t{0});
    std::array<uint8_t, 16> raw{};
    if (!memory_.read(block, std::as_writable_bytes(std::span(raw)))) {
        return;  // nowhere to report it
    }
    const Dma dma{static_cast<uint32_t>(from_big_endian(std::span(raw).first(4))),
                  static_cast<uint32_t>(from_big_endian(std::span(raw).subspan(4, 4))),
                  from_big_endian(std::span(raw).subspan(8, 8))};
    if ((dma.control & kDmaSelect) != 0) {
        select(static_cast<uint16_t>(dma.control >> 16));
    }
    const std::string answer = big_endian(dma_transfer(dma) ? uint32_t{0} : kDmaError);
    if (!memory_.write(block, std::as_bytes(std::span(answer)))) {
        log_debug("fw_cfg", "the DMA control block went away");
    }
}

bool FwCfg::dma_transfer(const Dma& dma) {
    if (dma.length > kDmaBytesMax) {
        return false;
    }
    if ((dma.control & kDmaRead) != 0) {
        return dma_read(dma);
    }
    if ((dma.control & kDmaWrite) != 0) {
        return dma_write(dma);
    }
    if ((dma.control & kDmaSkip) != 0) {
        const uint64_t end = uint64_t{position_} + dma.length;
        position_ = static_cast<uint32_t>(std::min<uint64_t>(end, UINT32_MAX));
    }
    return true;
}

bool FwCfg::dma_read(const Dma& dma) {
    const auto found = items_.find(selected_);
    std::string_view rest;
    if (found != items_.end() && position_ < found->second.bytes.size()) {
        rest = std::string_view(found->second.bytes).substr(position_, dma.length);
    }
    position_ += static_cast<uint32_t>(rest.size());
    return memory_.write(dma.address, std::as_bytes(std::span(rest))).ok() &&
           memory_.fill(dma.address + rest.size(), dma.length - rest.size(), std::byte{0}).ok();
}

bool FwCfg::dma_write(const Dma& dma) {
    const auto found = items_.find(selected_);
    if (found == items_.end() || !found->second.writable ||
        position_ > found->second.bytes.size() ||
        dma.length > found->second.bytes.size() - position_) {
        return false;
    }
    const auto target = std::span(found->second.bytes).subspan(position_, dma.length);
    if (!memory_.read(dma.address, std::as_writable_bytes(target))) {
        return false;
    }
    position_ += dma.length;
    if (found->second.written) {
        found->second.written(found->second.bytes);
    }
    return true;
}

void FwCfg::reset() {
    const std::lock_guard lock(mutex_);
    selected_ = 0;
    position_ = 0;
    dma_address_ = 0;
    for (auto& [key, item] : items_) {
        if (item.writable) {
            item.bytes = item.initial;
        }
    }
}

Result<std::string> FwCfg::file(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(name);
    if (found == files_.end()) {
        return Error::not_found("there is no fw_cfg file {}", name);
    }
    return items_.at(found->second).bytes;
}

}  // namespace kumoi::hypervisor
