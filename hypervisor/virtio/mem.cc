#include "hypervisor/virtio/mem.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

// §5.15.6: requests.
constexpr uint16_t kPlug = 0;
constexpr uint16_t kUnplug = 1;
constexpr uint16_t kUnplugAll = 2;
constexpr uint16_t kState = 3;

// §5.15.3: features.
constexpr uint64_t kFeatureAcpiPxm = 1u << 0;
constexpr uint64_t kFeatureUnpluggedInaccessible = 1u << 1;

struct [[gnu::packed]] Request {
    uint16_t type;
    uint16_t padding[3];
    uint64_t address;
    uint16_t blocks;
    uint16_t padding2[3];
};
static_assert(sizeof(Request) == 24);

struct [[gnu::packed]] Reply {
    uint16_t type;
    uint16_t padding[3];
    uint16_t state;
};
static_assert(sizeof(Reply) == 10);

struct [[gnu::packed]] Config {  // §5.15.4
    uint64_t block_size;
    uint16_t node_id;
    uint8_t padding[6];
    uint64_t address;
    uint64_t region_size;
    uint64_t usable_region_size;
    uint64_t plugged_size;
    uint64_t requested_size;
};
static_assert(sizeof(Config) == 56);

// Fields of the saved state.
constexpr uint16_t kRequestedField = 1;
constexpr uint16_t kBlockSizeField = 2;
constexpr uint16_t kBitmapField = kSectionMustUnderstand | 3;

}  // namespace

VirtioMem::VirtioMem(std::string name, HotMemory& memory, uint16_t node,
                     std::function<void(Sizes)> changed)
    : name_(std::move(name)),
      memory_(memory),
      node_(node),
      changed_(std::move(changed)),
      plugged_(memory.block_count()) {}

uint64_t VirtioMem::features() const {
    return kFeatureAcpiPxm | kFeatureUnpluggedInaccessible;
}

VirtioMem::Sizes VirtioMem::sizes() const {
    const std::lock_guard lock(mutex_);
    return {plugged_count_ * memory_.block_size(), requested_};
}

Result<void> VirtioMem::set_requested_size(uint64_t bytes) {
    const uint64_t region = memory_.block_size() * memory_.block_count();
    if (bytes % memory_.block_size() != 0 || bytes > region) {
        return Error::invalid("{} bytes are no multiple of {} up to {}", bytes,
                              memory_.block_size(), region);
    }
    const std::lock_guard lock(mutex_);
    requested_ = bytes;
    if (context_ != nullptr) {
        context_->config_changed();
    }
    return {};
}

Result<void> VirtioMem::unplug_all() {
    const std::lock_guard lock(mutex_);
    for (uint32_t block = 0; block < plugged_.size(); ++block) {
        if (plugged_[block]) {
            TRY_CONTEXT(memory_.unplug(block), "unplugging block {} of {}", block, name_);
            plugged_[block] = false;
            --plugged_count_;
        }
    }
    return {};
}

void VirtioMem::read_config(uint32_t offset, std::span<uint8_t> out) const {
    Config config{};
    config.block_size = memory_.block_size();
    config.node_id = node_;
    config.address = memory_.base();
    config.region_size = memory_.block_size() * memory_.block_count();
    config.usable_region_size = config.region_size;
    const Sizes now = sizes();
    config.plugged_size = now.plugged;
    config.requested_size = now.requested;
    read_config_bytes({reinterpret_cast<const uint8_t*>(&config), sizeof config}, offset, out);
}

DeviceStatistics VirtioMem::statistics() const {
    const Sizes now = sizes();
    return {{"plugged_bytes", now.plugged},           {"requested_bytes", now.requested},
            {"requests", requests_.value()},          {"refused_requests", refused_.value()},
            {"malformed_chains", malformed_.value()}, {"failures", failures_.value()}};
}

Result<void> VirtioMem::start(VirtioContext& context) {
    const std::lock_guard lock(mutex_);
    context_ = &context;
    return {};
}

void VirtioMem::stop() {
    const std::lock_guard lock(mutex_);
    context_ = nullptr;
}

void VirtioMem::process_queue(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        serve(*chain);
    }
}

void VirtioMem::serve(Chain& chain) {
    Request request{};
    if (chain.copy_out(0, std::as_writable_bytes(std::span(&request, 1))) != sizeof request ||
        chain.writable_size() < sizeof(Reply)) {
        malformed_.increment();
        return;
    }
    requests_.increment();
    const Answer answer = handle(request.type, request.address, request.blocks);
    if (answer.response != Response::Ack) {
        refused_.increment();
    }
    Reply reply{};
    reply.type = static_cast<uint16_t>(answer.response);
    reply.state = static_cast<uint16_t>(answer.state);
    chain.add_used(static_cast<uint32_t>(chain.copy_in(0, std::as_bytes(std::span(&reply, 1)))));
}

VirtioMem::Answer VirtioMem::handle(uint16_t type, uint64_t address, uint16_t blocks) {
    Answer answer;
    Sizes now;
    {
        const std::lock_guard lock(mutex_);
        const uint32_t before = plugged_count_;
        uint32_t first = 0;
        if (type == kUnplugAll) {
            answer.response = unplug(0, static_cast<uint32_t>(plugged_.size()));
        } else if (!locate(address, blocks, first)) {
            return answer;
        } else if (type == kState) {
            return {Response::Ack, state_of(first, blocks)};
        } else if (type == kPlug) {
            answer.response = plug(first, blocks);
        } else if (type == kUnplug) {
            // §5.15.6.2: only what is plugged, all of it
            answer.response = state_of(first, blocks) == BlockState::Plugged ? unplug(first, blocks)
                                                                             : Response::Error;
        }
        if (plugged_count_ == before) {
            return answer;
        }
        now = {plugged_count_ * memory_.block_size(), requested_};
    }
    if (changed_) {
        changed_(now);
    }
    return answer;
}

bool VirtioMem::locate(uint64_t address, uint16_t count, uint32_t& first) const {
    if (address < memory_.base() || (address - memory_.base()) % memory_.block_size() != 0) {
        return false;
    }
    const uint64_t index = (address - memory_.base()) / memory_.block_size();
    if (count == 0 || index >= plugged_.size() || count > plugged_.size() - index) {
        return false;
    }
    first = static_cast<uint32_t>(index);
    return true;
}

// §5.15.6.1: only what is not plugged, and not beyond what was requested.
VirtioMem::Response VirtioMem::plug(uint32_t first, uint32_t count) {
    if (state_of(first, count) != BlockState::Unplugged) {
        return Response::Error;
    }
    if ((uint64_t{plugged_count_} + count) * memory_.block_size() > requested_) {
        return Response::Nack;
    }
    for (uint32_t block = first; block < first + count; ++block) {
        if (auto done = memory_.plug(block, HotContent::Zero); !done) {
            host_failed("memory cannot be plugged", block, done.error());
            unplug(first, block - first);
            return Response::Busy;  // the driver tries again later
        }
        plugged_[block] = true;
        ++plugged_count_;
    }
    return Response::Ack;
}

// Passes over what is not plugged.
VirtioMem::Response VirtioMem::unplug(uint32_t first, uint32_t count) {
    for (uint32_t block = first; block < first + count; ++block) {
        if (!plugged_[block]) {
            continue;
        }
        if (auto done = memory_.unplug(block); !done) {
            host_failed("memory cannot be unplugged", block, done.error());
            return Response::Busy;
        }
        plugged_[block] = false;
        --plugged_count_;
    }
    return Response::Ack;
}

void VirtioMem::host_failed(std::string_view what, uint32_t block, const Error& error) {
    failures_.increment();
    if (const auto unreported = failure_reports_.admit()) {
        log_warn("virtio", what,
                 {{"device", name_},
                  {"block", block},
                  {"error", error.text()},
                  {"unreported", *unreported}});
    }
}

VirtioMem::BlockState VirtioMem::state_of(uint32_t first, uint32_t count) const {
    const auto begin = plugged_.begin() + first;
    const auto plugged = static_cast<uint32_t>(std::count(begin, begin + count, true));
    if (plugged == 0) {
        return BlockState::Unplugged;
    }
    return plugged == count ? BlockState::Plugged : BlockState::Mixed;
}

void VirtioMem::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    std::vector<uint8_t> bitmap((plugged_.size() + 7) / 8);
    for (size_t block = 0; block < plugged_.size(); ++block) {
        bitmap[block / 8] |= static_cast<uint8_t>((plugged_[block] ? 1u : 0u) << (block % 8));
    }
    out.u64(kRequestedField, requested_).u64(kBlockSizeField, memory_.block_size());
    out.bytes(kBitmapField, std::span<const uint8_t>(bitmap));
}

// Onto a fresh device, nothing plugged. The content of the bitmap's blocks was restored before,
// with the rest of memory.
Result<void> VirtioMem::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    const uint64_t region = memory_.block_size() * plugged_.size();
    if (TRY(in.u64(kBlockSizeField)) != memory_.block_size()) {
        return in.refuse(kBlockSizeField, "the machine has blocks of another size");
    }
    const uint64_t requested = TRY(in.u64_max(kRequestedField, region));
    if (requested % memory_.block_size() != 0) {
        return in.refuse(kRequestedField, "not whole blocks");
    }
    requested_ = requested;
    const auto bitmap = TRY(in.bytes(kBitmapField, (plugged_.size() + 7) / 8));
    for (uint32_t block = 0; block < plugged_.size(); ++block) {
        const auto byte = static_cast<unsigned>(bitmap[block / 8]);
        if ((byte >> (block % 8) & 1) != 0 && !plugged_[block]) {
            TRY(memory_.plug(block, HotContent::Keep));
            plugged_[block] = true;
            ++plugged_count_;
        }
    }
    return {};
}

}  // namespace kumoi::hypervisor
