#include "hypervisor/virtio/console.h"

#include <algorithm>
#include <array>

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kFeatureSize = 1ull << 0;  // §5.3.3: VIRTIO_CONSOLE_F_SIZE

}  // namespace

VirtioConsole::VirtioConsole(std::string name, std::unique_ptr<ConsoleBackend> backend,
                             uint16_t columns, uint16_t rows)
    : name_(std::move(name)), columns_(columns), rows_(rows), backend_(std::move(backend)) {}

VirtioConsole::~VirtioConsole() = default;

uint64_t VirtioConsole::features() const {
    return columns_ != 0 ? kFeatureSize : 0;
}

void VirtioConsole::read_config(uint32_t offset, std::span<uint8_t> out) const {
    // §5.3.4: cols, rows, max_nr_ports, emerg_wr; only the first two are offered.
    const std::array<uint8_t, 12> config{
        static_cast<uint8_t>(columns_), static_cast<uint8_t>(columns_ >> 8),
        static_cast<uint8_t>(rows_), static_cast<uint8_t>(rows_ >> 8), 1};
    read_config_bytes(config, offset, out);
}

Result<void> VirtioConsole::start(VirtioContext& context) {
    context_ = &context;
    paused_ = false;
    return backend_->start(context.loop(), [this] {
        if (!context_->serve_queue(kReceiveQueue)) {
            backend_->set_input_enabled(false);
        }
    });
}

void VirtioConsole::process_queue(Queue& queue) {
    if (queue.index() == kTransmitQueue) {
        transmit(queue);
    } else {
        receive(queue);
    }
}

void VirtioConsole::transmit(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        if (!chain->writable().empty() || chain->readable().empty()) {
            malformed_.increment();
            continue;
        }
        transmit_chain(*chain);
    }
}

void VirtioConsole::transmit_chain(const Chain& chain) {
    for (const Descriptor& descriptor : chain.readable()) {
        const size_t taken = backend_->write(descriptor.bytes);
        tx_bytes_.increment(taken);
        tx_lost_bytes_.increment(descriptor.bytes.size() - taken);
    }
}

void VirtioConsole::receive(Queue& queue) {
    std::array<std::byte, kChunkBytes> chunk;
    while (auto chain = queue.next_chain()) {
        if (!chain->readable().empty() || chain->writable().empty()) {
            malformed_.increment();
            continue;
        }
        const size_t room = std::min<uint64_t>(chunk.size(), chain->writable_size());
        const size_t size = backend_->read(std::span(chunk).first(room));
        if (size == 0) {
            queue.put_back(std::move(*chain));
            backend_->set_input_enabled(!paused_);
            return;
        }
        chain->copy_in(0, std::span(chunk).first(size));
        chain->add_used(static_cast<uint32_t>(size));
        rx_bytes_.increment(size);
    }
    backend_->set_input_enabled(false);  // until the driver adds buffers
}

void VirtioConsole::quiesce() {
    paused_ = true;
    backend_->set_input_enabled(false);
}

void VirtioConsole::resume() {
    paused_ = false;
}  // the receive queue's turn enables input again

void VirtioConsole::stop() {
    backend_->stop();
    context_ = nullptr;
}

DeviceStatistics VirtioConsole::statistics() const {
    return {{"tx_bytes", tx_bytes_.value()},
            {"tx_lost_bytes", tx_lost_bytes_.value()},
            {"rx_bytes", rx_bytes_.value()},
            {"malformed_chains", malformed_.value()}};
}

}  // namespace kumoi::hypervisor
