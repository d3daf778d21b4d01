#include "hypervisor/display/bochs_display.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <sys/mman.h>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

constexpr PciIds kIds{0x1234, 0x1111, 0x1af4, 0x1100, 0x03'80'00, 2};  // display, not VGA
constexpr unsigned kMemoryBar = 0;
constexpr unsigned kRegisterBar = 2;
constexpr uint64_t kRegisterBarSize = 0x1000;
constexpr uint64_t kDispiStart = 0x500;
constexpr uint64_t kExtensionStart = 0x600;
constexpr uint32_t kExtensionSize = 8;
constexpr uint32_t kLittleEndian = 0x1e1e'1e1e;
constexpr uint32_t kBytesPerPixel = 4;

enum Dispi : size_t {
    kId = 0,
    kWidth = 1,
    kHeight = 2,
    kBitsPerPixel = 3,
    kEnable = 4,
    kBank = 5,
    kVirtualWidth = 6,
    kVirtualHeight = 7,
    kXOffset = 8,
    kYOffset = 9,
    kMemory64K = 10,
};
constexpr uint16_t kDispiId = 0xb0c5;
constexpr uint16_t kEnabled = 0x01;
constexpr uint16_t kGetCapabilities = 0x02;  // reads of the sizes answer the largest ones
constexpr uint16_t kNoClear = 0x80;

enum SectionField : uint16_t { kFieldDispi = 1, kFieldConfig = 2, kFieldMemory = 3 };

}  // namespace

// Video memory or ROM where it is not mapped as memory.
class BochsDisplay::WindowAccess final : public IoDevice {
public:
    WindowAccess(std::string name, Window& window) : name_(std::move(name)), window_(window) {}
    std::string name() const override { return name_; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override {
        std::ranges::fill(data, uint8_t{0xff});
        if (fits(offset, data.size())) {
            std::memcpy(data.data(), window_.memory.data() + offset, data.size());
        }
    }
    void io_write(uint64_t offset, std::span<const uint8_t> data) override {
        if (window_.access == GuestAccess::ReadWrite && fits(offset, data.size())) {
            std::memcpy(window_.memory.data() + offset, data.data(), data.size());
        }
    }

private:
    bool fits(uint64_t offset, size_t size) const {
        return offset < window_.memory.size() && size <= window_.memory.size() - offset;
    }
    const std::string name_;
    Window& window_;
};

class BochsDisplay::Registers final : public IoDevice {
public:
    explicit Registers(BochsDisplay& display) : display_(display) {}
    std::string name() const override { return display_.name(); }
    void io_read(uint64_t offset, std::span<uint8_t> data) override {
        const std::lock_guard lock(display_.mutex_);
        for (size_t i = 0; i < data.size(); ++i) {
            data[i] = display_.register_byte(offset + i);
        }
    }
    void io_write(uint64_t offset, std::span<const uint8_t> data) override {
        const uint64_t index = (offset - kDispiStart) / 2;
        if (offset < kDispiStart || index >= kDispiCount || offset % 2 != 0 || data.size() < 2) {
            return;  // VGA ports, byte order, EDID: nothing to choose
        }
        display_.write_dispi(index, static_cast<uint16_t>(data[0] | data[1] << 8));
    }

private:
    BochsDisplay& display_;
};

BochsDisplay::BochsDisplay(Platform& platform, const BochsDisplayConfig& config)
    : platform_(platform),
      config_(config),
      space_(kIds),
      edid_(make_edid(config.width, config.height)) {
    video_.access = GuestAccess::ReadWrite;
    video_.device = std::make_unique<WindowAccess>(config_.name, video_);
    rom_.access = GuestAccess::ReadOnly;
    registers_ = std::make_unique<Registers>(*this);
    space_.add_bar(kMemoryBar, config.memory_bytes, BarWidth::Memory32);
    space_.set(pci::kBar0, 1, 0x08);  // prefetchable
    space_.add_bar(kRegisterBar, kRegisterBarSize, BarWidth::Memory32);
}

Result<std::unique_ptr<BochsDisplay>> BochsDisplay::create(Platform& platform,
                                                           const BochsDisplayConfig& config) {
    constexpr uint64_t kMin = 1u << 20;
    constexpr uint64_t kMax = 64u << 20;
    if (config.memory_bytes < kMin || config.memory_bytes > kMax ||
        !std::has_single_bit(config.memory_bytes)) {
        return Error::invalid("{} bytes of video memory: a power of two from {} to {} is possible",
                              config.memory_bytes, kMin, kMax);
    }
    const uint64_t picture = uint64_t{config.width} * config.height * kBytesPerPixel;
    if (config.width == 0 || config.height == 0 || config.width > kDisplayWidthMax ||
        config.height > kDisplayHeightMax || picture > config.memory_bytes) {
        return Error::invalid("a picture of {} x {} does not fit {} x {} and {} bytes of memory",
                              config.width, config.height, kDisplayWidthMax, kDisplayHeightMax,
                              config.memory_bytes);
    }
    if (config.rom.size() > kOptionRomSizeMax) {
        return Error::invalid("an option ROM of {} bytes: at most {} are possible",
                              config.rom.size(), kOptionRomSizeMax);
    }
    std::unique_ptr<BochsDisplay> display(new BochsDisplay(platform, config));
    TRY(display->create_memory());
    return display;
}

Result<void> BochsDisplay::create_memory() {
    constexpr size_t kRomSizeMin = 64u << 10;  // one size for all that are usual
    const int own = config_.memory_file < 0 ? MAP_ANONYMOUS : 0;
    video_.memory = TRY(Mapping::map(config_.memory_file, config_.memory_bytes,
                                     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | own));
    if (config_.rom.empty()) {
        return {};
    }
    const size_t size = std::bit_ceil(std::max(config_.rom.size(), kRomSizeMin));
    rom_.memory = TRY(Mapping::map(-1, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS));
    std::memcpy(rom_.memory.data(), config_.rom.data(), config_.rom.size());
    rom_.device = std::make_unique<WindowAccess>(config_.name + "-rom", rom_);
    space_.add_rom(size);
    return {};
}

BochsDisplay::~BochsDisplay() = default;

uint32_t BochsDisplay::config_read(uint32_t offset, uint32_t width) {
    return space_.read(offset, width);
}

void BochsDisplay::config_write(uint32_t offset, uint32_t width, uint32_t value) {
    space_.write(offset, width, value);
}

void BochsDisplay::reset() {
    space_.reset_command();
    space_.write(pci::kRomRegister, 4, 0);
    const std::lock_guard lock(mutex_);
    dispi_ = {};
    // Back to the host: nothing of the last run is seen in the next.
    madvise(memory_.data(), memory_.size(), MADV_REMOVE);
}

IoDevice* BochsDisplay::bar(unsigned index) {
    switch (index) {
        case kMemoryBar: return video_.device.get();
        case kRegisterBar: return registers_.get();
        case pci::kRom: return rom_.device.get();
        default: return nullptr;
    }
}

void BochsDisplay::bar_moved(unsigned index, uint64_t base) {
    if (index == kMemoryBar) {
        move_window(video_, base);
    } else if (index == pci::kRom) {
        move_window(rom_, base);
    }
}

// Drawing costs no exits while the memory is mapped.
void BochsDisplay::move_window(Window& window, uint64_t base) {
    window.mapped.reset();
    if (base == 0) {
        return;
    }
    auto mapped = platform_.map_memory(base, window.memory.bytes(), window.access);
    if (mapped) {
        window.mapped = std::move(*mapped);
        return;
    }
    if (const auto unreported = map_reports_.admit()) {
        log_warn("display", "the display's memory is reached by exits, which is slow",
                 {{"error", mapped.error().text()}, {"unreported", *unreported}});
    }
}

uint16_t BochsDisplay::read_dispi(size_t index) const {
    switch (index) {
        case kId: return kDispiId;
        case kMemory64K: return static_cast<uint16_t>(memory_.size() >> 16);
        case kWidth:
            return (dispi_[kEnable] & kGetCapabilities) != 0 ? kDisplayWidthMax : dispi_[index];
        case kHeight:
            return (dispi_[kEnable] & kGetCapabilities) != 0 ? kDisplayHeightMax : dispi_[index];
        case kBitsPerPixel: return (dispi_[kEnable] & kGetCapabilities) != 0 ? 32 : dispi_[index];
        case kVirtualHeight: {
            const uint64_t line = uint64_t{dispi_[kVirtualWidth]} * kBytesPerPixel;
            return line == 0
                       ? 0
                       : static_cast<uint16_t>(std::min<uint64_t>(memory_.size() / line, 0xffff));
        }
        default: return dispi_[index];
    }
}

void BochsDisplay::write_dispi(size_t index, uint16_t value) {
    const std::lock_guard lock(mutex_);
    const uint16_t before = dispi_[index];
    if (index != kId && index != kMemory64K) {
        dispi_[index] = value;
    }
    if (index != kEnable || (value & kEnabled) == 0 || (before & kEnabled) != 0) {
        return;
    }
    dispi_[kVirtualWidth] = dispi_[kWidth];
    dispi_[kXOffset] = dispi_[kYOffset] = 0;
    if ((value & kNoClear) == 0) {
        madvise(memory_.data(), memory_.size(), MADV_REMOVE);
    }
}

uint8_t BochsDisplay::register_byte(uint64_t offset) const {
    if (offset < edid_.size()) {
        return edid_[offset];
    }
    if (offset >= kDispiStart && (offset - kDispiStart) / 2 < kDispiCount) {
        const uint16_t value = read_dispi((offset - kDispiStart) / 2);
        return static_cast<uint8_t>(value >> (8 * (offset % 2)));
    }
    if (offset >= kExtensionStart && offset < kExtensionStart + kExtensionSize) {
        const uint64_t at = offset - kExtensionStart;
        const uint32_t value = at < 4 ? kExtensionSize : kLittleEndian;
        return static_cast<uint8_t>(value >> (8 * (at % 4)));
    }
    return offset < kDispiStart ? 0 : 0xff;
}

// What is not on yet, or cannot be shown, is a dark picture of the preferred size: a viewer always
// sees something, and its window does not jump around.
DisplayMode BochsDisplay::mode_locked() const {
    const DisplayMode mode{dispi_[kWidth], dispi_[kHeight]};
    const bool shown = (dispi_[kEnable] & kEnabled) != 0 && dispi_[kBitsPerPixel] == 32 &&
                       mode.width != 0 && mode.height != 0 && mode.width <= kDisplayWidthMax &&
                       mode.height <= kDisplayHeightMax;
    return shown ? mode : DisplayMode{};
}

DisplayMode BochsDisplay::mode() const {
    const std::lock_guard lock(mutex_);
    const DisplayMode mode = mode_locked();
    return mode.width != 0 ? mode : DisplayMode{config_.width, config_.height};
}

uint64_t BochsDisplay::row_start_locked(uint32_t y) const {
    const uint64_t stride =
        uint64_t{std::max(dispi_[kVirtualWidth], dispi_[kWidth])} * kBytesPerPixel;
    return (uint64_t{dispi_[kYOffset]} + y) * stride + uint64_t{dispi_[kXOffset]} * kBytesPerPixel;
}

bool BochsDisplay::read_row(const DisplayMode& mode, uint32_t y, std::span<uint32_t> out) const {
    uint64_t start = 0;
    {
        const std::lock_guard lock(mutex_);
        const DisplayMode now = mode_locked();
        if (now.width == 0) {
            std::ranges::fill(out, 0u);
            return mode == DisplayMode{config_.width, config_.height};
        }
        if (now != mode) {
            return false;
        }
        start = row_start_locked(y);
    }
    const uint64_t bytes = out.size_bytes();
    if (start > memory_.size() || bytes > memory_.size() - start) {
        std::ranges::fill(out, 0u);  // panned past the end of the memory
        return true;
    }
    std::memcpy(out.data(), memory_.data() + start, bytes);
    for (uint32_t& pixel : out) {
        pixel &= 0x00ff'ffff;
    }
    return true;
}

void BochsDisplay::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.object(kFieldDispi, dispi_);
    // Up to the last byte that is not zero: the picture, usually.
    size_t used = config_.memory_stays && config_.memory_stays() ? 0 : memory_.size();
    while (used >= 4096 && std::all_of(memory_.data() + used - 4096, memory_.data() + used,
                                       [](std::byte byte) { return byte == std::byte{0}; })) {
        used -= 4096;
    }
    out.bytes(kFieldMemory, std::span<const std::byte>(memory_.data(), used));
}

Result<void> BochsDisplay::load(SectionReader& in) {
    const auto dispi = TRY((in.object<std::array<uint16_t, kDispiCount>>(kFieldDispi)));
    const auto memory = TRY(in.bytes(kFieldMemory));
    if (memory.size() > memory_.size()) {
        return in.refuse(kFieldMemory, fmt::format("{} bytes of video memory do not fit {}",
                                                   memory.size(), memory_.size()));
    }
    const std::lock_guard lock(mutex_);
    dispi_ = dispi;
    std::memcpy(memory_.data(), memory.data(), memory.size());
    return {};
}

std::array<uint8_t, 128> make_edid(uint32_t width, uint32_t height) {
    std::array<uint8_t, 128> edid{};
    constexpr std::array<uint8_t, 8> kHeader{0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00};
    std::ranges::copy(kHeader, edid.begin());
    const uint16_t maker = ('K' - '@') << 10 | ('M' - '@') << 5 | ('O' - '@');
    edid[8] = maker >> 8;
    edid[9] = maker & 0xff;
    edid[10] = 1;            // product
    edid[17] = 2026 - 1990;  // year
    edid[18] = 1;            // version 1.4
    edid[19] = 4;
    edid[20] = 0xa5;                              // digital, 8 bits a colour, DisplayPort
    edid[21] = static_cast<uint8_t>(width / 38);  // centimetres at 96 dots an inch
    edid[22] = static_cast<uint8_t>(height / 38);
    edid[23] = 120;   // gamma 2.2
    edid[24] = 0x06;  // sRGB; the first timing is the preferred one
    constexpr std::array<uint8_t, 10> kSrgb{0xee, 0x91, 0xa3, 0x54, 0x4c,
                                            0x99, 0x26, 0x0f, 0x50, 0x54};
    std::ranges::copy(kSrgb, edid.begin() + 25);
    std::fill(edid.begin() + 38, edid.begin() + 54, uint8_t{1});  // no standard timings
    // One detailed timing with reduced blanking (§3.10.2).
    const uint32_t blank_x = 160;
    const uint32_t blank_y = 40;
    const uint32_t clock = (width + blank_x) * (height + blank_y) * 60 / 10'000;
    uint8_t* timing = edid.data() + 54;
    timing[0] = static_cast<uint8_t>(clock);
    timing[1] = static_cast<uint8_t>(clock >> 8);
    timing[2] = static_cast<uint8_t>(width);
    timing[3] = blank_x;
    timing[4] = static_cast<uint8_t>(width >> 8 << 4);
    timing[5] = static_cast<uint8_t>(height);
    timing[6] = blank_y;
    timing[7] = static_cast<uint8_t>(height >> 8 << 4);
    timing[8] = 48;  // sync offset and width, pixels
    timing[9] = 32;
    timing[10] = 3 << 4 | 6;                               // the same, lines
    timing[12] = static_cast<uint8_t>(width * 254 / 960);  // millimetres
    timing[13] = static_cast<uint8_t>(height * 254 / 960);
    timing[14] = static_cast<uint8_t>((width * 254 / 960) >> 8 << 4 | (height * 254 / 960) >> 8);
    timing[17] = 0x1e;  // digital separate sync, positive
    constexpr std::array<uint8_t, 18> kName{0,   0,   0,   0xfc, 0,   'k', 'u', 'm', 'o',
                                            'i', ' ', '1', '\n', ' ', ' ', ' ', ' ', ' '};
    std::ranges::copy(kName, edid.begin() + 72);
    edid[93] = 0x10;  // two descriptors that say nothing
    edid[111] = 0x10;
    unsigned sum = 0;
    for (size_t i = 0; i + 1 < edid.size(); ++i) {
        sum += edid[i];
    }
    edid[127] = static_cast<uint8_t>(256 - sum % 256);
    return edid;
}

}  // namespace kumoi::hypervisor
