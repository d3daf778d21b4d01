#include "hypervisor/virtio/serial.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kFeatureMultiport = 1ull << 1;  // §5.3.3
constexpr uint16_t kQueueSize = 64;

// §5.3.6.2
enum ControlEvent : uint16_t {
    kDeviceReady = 0,
    kPortAdd = 1,
    kPortReady = 3,
    kPortOpen = 6,
    kPortName = 7,
};
struct ControlHeader {
    uint32_t id;
    uint16_t event;
    uint16_t value;
};
static_assert(sizeof(ControlHeader) == 8);

// Saved state.
enum Field : uint16_t { kFieldDriverReady = 1, kFieldPort = 2 };
enum PortField : uint16_t {
    kFieldAdded = 1,
    kFieldReady = 2,
    kFieldNamed = 3,
    kFieldHostOpen = 4,
    kFieldGuestOpen = 5,
};

}  // namespace

VirtioSerial::VirtioSerial(std::string name, std::vector<SerialPort> ports)
    : name_(std::move(name)) {
    for (SerialPort& port : ports) {
        ports_.push_back({std::move(port.name), std::move(port.backend), {}});
    }
}

VirtioSerial::~VirtioSerial() = default;

uint64_t VirtioSerial::features() const {
    return kFeatureMultiport;
}

std::vector<uint16_t> VirtioSerial::queue_sizes() const {
    return std::vector<uint16_t>(kPortQueueFirst + 2 * ports_.size(), kQueueSize);
}

void VirtioSerial::read_config(uint32_t offset, std::span<uint8_t> out) const {
    // §5.3.4: cols, rows, max_nr_ports, emerg_wr.
    const std::array<uint8_t, 12> config{0, 0, 0, 0, static_cast<uint8_t>(ports_.size() + 1)};
    read_config_bytes(config, offset, out);
}

bool VirtioSerial::has_ports() const {
    return (context_->features() & kFeatureMultiport) != 0;
}

// --- Life ---

Result<void> VirtioSerial::start(VirtioContext& context) {
    context_ = &context;
    paused_ = false;
    for (size_t i = 0; i < ports_.size(); ++i) {
        const auto serve = [this, i](uint16_t queue) {
            if (paused_ || !context_->serve_queue(queue)) {
                ports_[i].backend->set_input_enabled(false);
            }
        };
        const auto receive_index = receive_queue(i);
        const auto transmit_index = static_cast<uint16_t>(receive_index + 1);
        TRY(ports_[i].backend->start(
            context.loop(), {.input_ready = [serve, receive_index] { serve(receive_index); },
                             .output_ready =
                                 [this, transmit_index] {
                                     if (!paused_) {
                                         (void)context_->serve_queue(transmit_index);
                                     }
                                 },
                             .connection_changed = [this, i] { connection_changed(i); }}));
    }
    return {};
}

void VirtioSerial::connection_changed(size_t port) {
    if (paused_) {
        return;  // every queue has its turn at the end of the pause
    }
    (void)context_->serve_queue(kControlReceiveQueue);
    if (!ports_[port].backend->connected()) {
        (void)context_->serve_queue(static_cast<uint16_t>(receive_queue(port) + 1));
    } else {
        (void)context_->serve_queue(receive_queue(port));
    }
}

void VirtioSerial::quiesce() {
    paused_ = true;
    for (Port& port : ports_) {
        port.backend->set_input_enabled(false);
    }
}

void VirtioSerial::resume() {
    paused_ = false;
}  // the queues' turns enable input again

void VirtioSerial::stop() {
    for (Port& port : ports_) {
        port.backend->stop();
        port.knowledge = {};
    }
    driver_ready_ = false;
    open_count_ = 0;
    context_ = nullptr;
}

void VirtioSerial::process_queue(Queue& queue) {
    const uint16_t index = queue.index();
    if (index == kControlReceiveQueue) {
        send_control(queue);
    } else if (index == kControlTransmitQueue) {
        take_control(queue);
    } else if (index < kControlReceiveQueue) {
        if (index == 1) {
            discard(queue);  // of port 0, which is not there
        }
    } else {
        Port& port = ports_[(index - kPortQueueFirst) / 2u];
        (index - kPortQueueFirst) % 2 == 0 ? receive(port, queue) : transmit(port, queue);
    }
}

// --- Control (§5.3.6.2) ---

void VirtioSerial::take_control(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        take_message(*chain);
    }
    context_->run_queue(kControlReceiveQueue);
}

void VirtioSerial::take_message(const Chain& chain) {
    ControlHeader header{};
    if (!chain.writable().empty() || chain.readable_size() < sizeof header) {
        malformed_.increment();
        return;
    }
    chain.copy_out(0, std::as_writable_bytes(std::span(&header, 1)));
    control_in_.increment();
    if (header.event == kDeviceReady) {
        driver_ready_ = header.value == 1;
        for (Port& port : ports_) {
            port.knowledge = {};
        }
        open_count_ = 0;
        return;
    }
    if (header.id == 0 || header.id > ports_.size()) {
        malformed_.increment();
        return;
    }
    Knowledge& knowledge = ports_[header.id - 1].knowledge;
    if (header.event == kPortReady) {
        knowledge = {.added = true, .ready = header.value == 1};
    } else if (header.event == kPortOpen) {
        knowledge.guest_open = header.value == 1;
        context_->run_queue(receive_queue(header.id - 1));
    } else {
        malformed_.increment();
        return;
    }
    open_count_ = static_cast<uint64_t>(
        std::ranges::count_if(ports_, [](const Port& one) { return one.knowledge.guest_open; }));
}

// What the guest ought to know and does not; marked as told.
std::optional<VirtioSerial::Message> VirtioSerial::next_message() {
    if (!driver_ready_) {
        return std::nullopt;
    }
    for (size_t i = 0; i < ports_.size(); ++i) {
        Port& port = ports_[i];
        Knowledge& knowledge = port.knowledge;
        const auto id = static_cast<uint32_t>(i + 1);
        const bool connected = port.backend->connected();
        if (!std::exchange(knowledge.added, true)) {
            return Message{id, kPortAdd, 0};
        }
        if (!knowledge.ready) {
            continue;
        }
        if (!std::exchange(knowledge.named, true)) {
            return Message{id, kPortName, 1, port.name};
        }
        if (std::exchange(knowledge.host_open, connected) != connected) {
            return Message{id, kPortOpen, static_cast<uint16_t>(connected ? 1 : 0)};
        }
    }
    return std::nullopt;
}

void VirtioSerial::send_control(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        const auto message = has_ports() ? next_message() : std::nullopt;
        if (!message) {
            queue.put_back(std::move(*chain));
            return;
        }
        if (!put_message(*chain, *message)) {
            malformed_.increment();  // the driver has no room for it, and never hears it
        }
    }
}

bool VirtioSerial::put_message(Chain& chain, const Message& message) {
    std::array<std::byte, sizeof(ControlHeader) + 256> bytes;
    const ControlHeader header{message.port, message.event, message.value};
    const size_t size = sizeof header + message.name.size();
    if (!chain.readable().empty() || chain.writable_size() < size || size > bytes.size()) {
        return false;
    }
    std::memcpy(bytes.data(), &header, sizeof header);
    std::ranges::copy(std::as_bytes(std::span(message.name)), bytes.begin() + sizeof header);
    chain.copy_in(0, std::span(bytes).first(size));
    chain.add_used(static_cast<uint32_t>(size));
    control_out_.increment();
    return true;
}

// --- Bytes ---

void VirtioSerial::discard(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        tx_lost_bytes_.increment(chain->readable_size());
    }
}

void VirtioSerial::transmit(Port& port, Queue& queue) {
    if (!has_ports()) {
        discard(queue);
        return;
    }
    while (auto chain = queue.next_chain()) {
        if (!chain->writable().empty() || chain->readable().empty()) {
            malformed_.increment();
            continue;
        }
        if (!port.backend->has_room()) {
            queue.put_back(std::move(*chain));
            return;  // until the client has read
        }
        for (const Descriptor& descriptor : chain->readable()) {
            const size_t taken = port.backend->write(descriptor.bytes);
            tx_bytes_.increment(taken);
            tx_lost_bytes_.increment(descriptor.bytes.size() - taken);
        }
    }
}

void VirtioSerial::receive(Port& port, Queue& queue) {
    if (!has_ports() || !port.knowledge.guest_open) {
        port.backend->set_input_enabled(false);
        return;
    }
    std::array<std::byte, kChunkBytes> chunk;
    while (auto chain = queue.next_chain()) {
        if (!chain->readable().empty() || chain->writable().empty()) {
            malformed_.increment();
            continue;
        }
        const size_t room = std::min<uint64_t>(chunk.size(), chain->writable_size());
        const size_t size = port.backend->read(std::span(chunk).first(room));
        if (size == 0) {
            queue.put_back(std::move(*chain));
            port.backend->set_input_enabled(!paused_);
            return;
        }
        chain->copy_in(0, std::span(chunk).first(size));
        chain->add_used(static_cast<uint32_t>(size));
        rx_bytes_.increment(size);
    }
    port.backend->set_input_enabled(false);  // until the driver adds buffers
}

// --- State ---

void VirtioSerial::save(SectionWriter& out) const {
    out.flag(kFieldDriverReady, driver_ready_);
    for (const Port& port : ports_) {
        SectionWriter one(port.name, 1);
        one.flag(kFieldAdded, port.knowledge.added)
            .flag(kFieldReady, port.knowledge.ready)
            .flag(kFieldNamed, port.knowledge.named)
            .flag(kFieldHostOpen, port.knowledge.host_open)
            .flag(kFieldGuestOpen, port.knowledge.guest_open);
        out.group(kFieldPort, one);
    }
}

Result<void> VirtioSerial::load(SectionReader& in) {
    driver_ready_ = TRY(in.flag(kFieldDriverReady));
    auto saved = TRY(in.groups(kFieldPort, ports_.size()));
    if (saved.size() != ports_.size()) {
        return in.refuse(kFieldPort,
                         fmt::format("{} ports, the machine has {}", saved.size(), ports_.size()));
    }
    uint64_t open = 0;
    for (size_t i = 0; i < ports_.size(); ++i) {
        if (saved[i].name() != ports_[i].name) {
            return in.refuse(kFieldPort, fmt::format("port {} is {}, not {}", i + 1,
                                                     saved[i].name(), ports_[i].name));
        }
        Knowledge& knowledge = ports_[i].knowledge;
        knowledge.added = TRY(saved[i].flag(kFieldAdded));
        knowledge.ready = TRY(saved[i].flag(kFieldReady));
        knowledge.named = TRY(saved[i].flag(kFieldNamed));
        knowledge.host_open = TRY(saved[i].flag(kFieldHostOpen));
        knowledge.guest_open = TRY(saved[i].flag(kFieldGuestOpen));
        TRY(saved[i].finish());
        open += knowledge.guest_open ? 1 : 0;
    }
    open_count_ = open;
    return {};
}

DeviceStatistics VirtioSerial::statistics() const {
    return {{"open_ports", open_count_.load()},          {"tx_bytes", tx_bytes_.value()},
            {"tx_lost_bytes", tx_lost_bytes_.value()},   {"rx_bytes", rx_bytes_.value()},
            {"control_from_guest", control_in_.value()}, {"control_to_guest", control_out_.value()},
            {"malformed_chains", malformed_.value()}};
}

}  // namespace kumoi::hypervisor
