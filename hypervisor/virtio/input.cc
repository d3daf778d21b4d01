#include "hypervisor/virtio/input.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <linux/input-event-codes.h>

#include "hypervisor/virtio/spec.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint16_t kEventQueue = 0;
// §5.8.4, virtio_input_config_select
constexpr uint8_t kSelectName = 0x01;
constexpr uint8_t kSelectSerial = 0x02;
constexpr uint8_t kSelectIds = 0x03;
constexpr uint8_t kSelectProperties = 0x10;
constexpr uint8_t kSelectEventBits = 0x11;
constexpr uint8_t kSelectAxis = 0x12;
constexpr size_t kConfigHeader = 8;  // select, subselect, size, padding
constexpr size_t kConfigUnion = 128;
constexpr uint16_t kBusVirtual = 0x06;

// Fields of the section; never reused.
enum SectionField : uint16_t { kFieldSelection = 1, kFieldEvents = 2 };
constexpr size_t kSavedEventsMax = 4096;

template <class... Codes>
std::vector<uint8_t> bitmap(Codes... codes) {
    std::vector<uint8_t> bits;
    for (const unsigned code : {static_cast<unsigned>(codes)...}) {
        bits.resize(std::max<size_t>(bits.size(), code / 8 + 1));
        bits[code / 8] |= static_cast<uint8_t>(1u << code % 8);
    }
    return bits;
}

void put32(std::vector<uint8_t>& out, uint32_t value) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
        out.push_back(static_cast<uint8_t>(value >> shift));
    }
}

}  // namespace

uint16_t VirtioInput::type() const {
    return virtio::kTypeInput;
}

std::vector<uint8_t> VirtioInput::selected() const {
    const uint16_t selection = selection_;
    const auto subselect = static_cast<uint8_t>(selection >> 8);
    switch (selection & 0xff) {
        case kSelectName: return {product_.begin(), product_.end()};
        case kSelectSerial: return {name_.begin(), name_.end()};
        case kSelectIds: return {kBusVirtual, 0, 0xf4, 0x1a, 1, 0, 1, 0};  // 1af4, 1, 1
        case kSelectProperties: return subselect == 0 ? properties() : std::vector<uint8_t>{};
        case kSelectEventBits: return event_bits(subselect);
        case kSelectAxis: return axis(subselect);
        default: return {};
    }
}

void VirtioInput::read_config(uint32_t offset, std::span<uint8_t> out) const {
    std::array<uint8_t, kConfigHeader + kConfigUnion> config{};
    const std::vector<uint8_t> content = selected();
    const size_t size = std::min(content.size(), kConfigUnion);
    const uint16_t selection = selection_;
    config[0] = static_cast<uint8_t>(selection);
    config[1] = static_cast<uint8_t>(selection >> 8);
    config[2] = static_cast<uint8_t>(size);
    std::copy_n(content.begin(), size, config.begin() + kConfigHeader);
    read_config_bytes(config, offset, out);
}

void VirtioInput::write_config(uint32_t offset, std::span<const uint8_t> bytes) {
    for (size_t i = 0; i < bytes.size() && offset + i < 2; ++i) {
        const unsigned shift = offset + i == 0 ? 0 : 8;
        const uint16_t kept = selection_ & static_cast<uint16_t>(~(0xffu << shift));
        selection_ = static_cast<uint16_t>(kept | bytes[i] << shift);
    }
}

DeviceStatistics VirtioInput::statistics() const {
    return {{"reports", reports_.value()},
            {"dropped_reports", dropped_.value()},
            {"status_events", status_.value()},
            {"malformed_chains", malformed_.value()}};
}

Result<void> VirtioInput::start(VirtioContext& context) {
    const std::lock_guard lock(mutex_);
    context_ = &context;
    running_ = true;
    return {};
}

void VirtioInput::stop() {
    const std::lock_guard lock(mutex_);
    running_ = false;
    context_ = nullptr;
    waiting_.clear();
    sent_events_ = 0;
    down_.clear();
}

void VirtioInput::report(std::vector<Event> events, Keep keep) {
    const std::lock_guard lock(mutex_);
    if (context_ == nullptr) {
        return;
    }
    // Releases get room of their own: what went down before the queue filled comes up again.
    if (waiting_.size() >= (keep == Keep::Always ? 2 * kReportsMax : kReportsMax)) {
        dropped_.increment();
        return;
    }
    events.push_back({EV_SYN, SYN_REPORT, 0});
    remember(events);
    waiting_.push_back(std::move(events));
    reports_.increment();
    context_->run_queue(kEventQueue);
}

void VirtioInput::remember(const std::vector<Event>& report) {
    for (const Event& event : report) {
        if (event.type == EV_KEY && event.value != 0) {
            down_.insert(event.code);
        } else if (event.type == EV_KEY) {
            down_.erase(event.code);
        }
    }
}

// What the driver has not had yet, and the end of everything that is down.
void VirtioInput::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.u64(kFieldSelection, selection_);
    std::vector<Event> events;
    for (const auto& report : waiting_) {
        events.insert(events.end(), report.begin(), report.end());
    }
    events.erase(events.begin(), events.begin() + static_cast<ptrdiff_t>(sent_events_));
    for (const uint16_t code : down_) {
        events.push_back({EV_KEY, code, 0});
        events.push_back({EV_SYN, SYN_REPORT, 0});
    }
    out.bytes(kFieldEvents, std::as_bytes(std::span(events)));
}

Result<void> VirtioInput::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    selection_ = TRY(in.u16(kFieldSelection));
    const auto bytes = TRY(in.bytes(kFieldEvents));
    if (bytes.size() % sizeof(Event) != 0 || bytes.size() / sizeof(Event) > kSavedEventsMax) {
        return in.refuse(kFieldEvents, fmt::format("{} bytes are no list of up to {} input events",
                                                   bytes.size(), kSavedEventsMax));
    }
    waiting_.clear();
    sent_events_ = 0;
    std::vector<Event> report;
    for (size_t at = 0; at < bytes.size(); at += sizeof(Event)) {
        Event event;
        std::memcpy(&event, bytes.data() + at, sizeof event);
        report.push_back(event);
        if (event.type == EV_SYN || at + sizeof(Event) == bytes.size()) {
            waiting_.push_back(std::exchange(report, {}));
        }
    }
    return {};
}

void VirtioInput::process_queue(Queue& queue) {
    if (queue.index() == kEventQueue) {
        send_reports(queue);
        return;
    }
    while (auto chain = queue.next_chain()) {
        if (!chain->writable().empty() || chain->readable_size() < sizeof(Event)) {
            malformed_.increment();
            continue;
        }
        status_.increment();
    }
}

void VirtioInput::send_reports(Queue& queue) {
    const std::lock_guard lock(mutex_);
    while (!waiting_.empty()) {
        auto chain = queue.next_chain();
        if (!chain) {
            return;
        }
        if (!chain->readable().empty() || chain->writable_size() < sizeof(Event)) {
            malformed_.increment();
            continue;
        }
        const Event& event = waiting_.front()[sent_events_];
        chain->add_used(
            static_cast<uint32_t>(chain->copy_in(0, std::as_bytes(std::span(&event, 1)))));
        if (++sent_events_ == waiting_.front().size()) {
            waiting_.pop_front();
            sent_events_ = 0;
        }
    }
}

void VirtioKeyboard::key(uint16_t code, bool down) {
    report({{EV_KEY, code, down ? 1u : 0u}}, down ? Keep::MayDrop : Keep::Always);
}

std::vector<uint8_t> VirtioKeyboard::event_bits(uint8_t type) const {
    if (type == EV_LED) {
        return bitmap(LED_NUML, LED_CAPSL, LED_SCROLLL);
    }
    if (type == EV_REP) {
        return bitmap(REP_DELAY, REP_PERIOD);
    }
    if (type != EV_KEY) {
        return {};
    }
    std::vector<uint8_t> keys(KEY_COMPOSE / 8 + 1, 0xff);  // all of a PC keyboard
    keys[0] &= 0xfe;                                       // KEY_RESERVED
    return keys;
}

void VirtioTablet::pointer(const PointerState& state) {
    std::vector<Event> events;
    bool released = false;
    {
        const std::lock_guard lock(state_mutex_);
        const auto button = [&](uint16_t code, bool now, bool before) {
            if (now != before) {
                events.push_back({EV_KEY, code, now ? 1u : 0u});
                released = released || !now;
            }
        };
        if (!known_ || state.x != last_.x) {
            events.push_back({EV_ABS, ABS_X, state.x});
        }
        if (!known_ || state.y != last_.y) {
            events.push_back({EV_ABS, ABS_Y, state.y});
        }
        button(BTN_LEFT, state.left, last_.left);
        button(BTN_MIDDLE, state.middle, last_.middle);
        button(BTN_RIGHT, state.right, last_.right);
        known_ = true;
        last_ = state;
    }
    if (state.wheel != 0) {
        events.push_back({EV_REL, REL_WHEEL, static_cast<uint32_t>(state.wheel)});
    }
    if (state.horizontal_wheel != 0) {
        events.push_back({EV_REL, REL_HWHEEL, static_cast<uint32_t>(state.horizontal_wheel)});
    }
    if (!events.empty()) {
        report(std::move(events), released ? Keep::Always : Keep::MayDrop);
    }
}

std::vector<uint8_t> VirtioTablet::event_bits(uint8_t type) const {
    switch (type) {
        case EV_KEY: return bitmap(BTN_LEFT, BTN_RIGHT, BTN_MIDDLE);
        case EV_REL: return bitmap(REL_WHEEL, REL_HWHEEL);
        case EV_ABS: return bitmap(ABS_X, ABS_Y);
        default: return {};
    }
}

// §5.8.4: min, max, fuzz, flat, resolution.
std::vector<uint8_t> VirtioTablet::axis(uint8_t code) const {
    std::vector<uint8_t> out;
    if (code == ABS_X || code == ABS_Y) {
        for (const uint32_t value : {0u, kPointerMax, 0u, 0u, 0u}) {
            put32(out, value);
        }
    }
    return out;
}

std::vector<uint8_t> VirtioTablet::properties() const {
    return bitmap(INPUT_PROP_POINTER);
}

}  // namespace kumoi::hypervisor
