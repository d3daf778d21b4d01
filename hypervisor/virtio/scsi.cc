#include "hypervisor/virtio/scsi.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace kumoi::hypervisor {

namespace {

constexpr uint16_t kControlQueue = 0;
constexpr uint16_t kEventQueue = 1;
constexpr uint16_t kRequestQueue = 2;
constexpr uint32_t kSenseSizeDefault = 96;
constexpr uint32_t kCdbSizeDefault = 32;
constexpr uint32_t kSizeMax = 256;  // of sense and CDB, whatever the driver writes
constexpr size_t kSenseSizeOffset = 20;
constexpr size_t kCdbSizeOffset = 24;
constexpr size_t kRequestHeaderSize = 19;  // LUN, id, attributes; the CDB follows
constexpr size_t kResponseHeaderSize = 12;

// §5.6.6.1 and §5.6.6.2: responses.
constexpr uint8_t kOk = 0;
constexpr uint8_t kBadTarget = 3;
constexpr uint8_t kFailure = 9;
constexpr uint8_t kFunctionComplete = 0;
constexpr uint8_t kFunctionRejected = 11;
constexpr uint8_t kIncorrectLun = 12;

// Control requests.
constexpr uint32_t kTaskManagement = 0;
constexpr uint32_t kNotificationQuery = 1;
constexpr uint32_t kNotificationSubscribe = 2;
constexpr uint32_t kSubtypeResetMax = 7;

struct [[gnu::packed]] Config {
    uint32_t num_queues = 1;
    uint32_t seg_max = VirtioScsi::kSegmentCountMax;
    uint32_t max_sectors = Cdrom::kTransferBytesMax / 512;
    uint32_t cmd_per_lun = 64;
    uint32_t event_info_size = 16;
    uint32_t sense_size = 0;
    uint32_t cdb_size = 0;
    uint16_t max_channel = 0;
    uint16_t max_target = 255;
    uint32_t max_lun = 16383;
};
static_assert(sizeof(Config) == 36);

struct [[gnu::packed]] Response {
    uint32_t sense_length = 0;
    uint32_t residual = 0;
    uint16_t status_qualifier = 0;
    uint8_t status = 0;
    uint8_t response = 0;
};
static_assert(sizeof(Response) == kResponseHeaderSize);

}  // namespace

struct VirtioScsi::Drive final : DiskClient {
    Drive(VirtioScsi& controller, Medium medium)
        : owner(controller),
          image(std::move(medium.image)),
          cdrom(image ? image->size() : 0, std::move(medium.serial)) {}
    void disk_completed(uint32_t token, int result) override { owner.finish_read(token, result); }
    void disk_batch_done() override {
        if (Queue* queue = owner.context_->queue(kRequestQueue)) {
            queue->publish();
        }
        if (owner.waiting_) {
            owner.context_->run_queue(kRequestQueue);
        }
    }
    VirtioScsi& owner;
    std::unique_ptr<DiskImage> image;
    Cdrom cdrom;
    std::unique_ptr<DiskQueue> disk;
};

VirtioScsi::VirtioScsi(std::string name, std::vector<Medium> drives)
    : name_(std::move(name)), sense_size_(kSenseSizeDefault), cdb_size_(kCdbSizeDefault) {
    for (Medium& medium : drives) {
        drives_.push_back(std::make_unique<Drive>(*this, std::move(medium)));
    }
}

VirtioScsi::~VirtioScsi() = default;

void VirtioScsi::read_config(uint32_t offset, std::span<uint8_t> out) const {
    Config config;
    config.sense_size = sense_size_;
    config.cdb_size = cdb_size_;
    std::array<uint8_t, sizeof(Config)> bytes;
    std::memcpy(bytes.data(), &config, sizeof config);
    read_config_bytes(bytes, offset, out);
}

void VirtioScsi::write_config(uint32_t offset, std::span<const uint8_t> bytes) {
    uint32_t value = 0;
    if (bytes.size() != sizeof value) {
        return;
    }
    std::memcpy(&value, bytes.data(), sizeof value);
    if (offset == kSenseSizeOffset) {
        sense_size_ = std::min(value, kSizeMax);
    } else if (offset == kCdbSizeOffset) {
        cdb_size_ = std::min(value, kSizeMax);
    }
}

Result<void> VirtioScsi::start(VirtioContext& context) {
    context_ = &context;
    running_sense_size_ = sense_size_;
    running_cdb_size_ = cdb_size_;
    pending_ = std::vector<Pending>(kQueueSize);
    free_tokens_.clear();
    for (uint32_t token = 0; token < kQueueSize; ++token) {
        free_tokens_.push_back(kQueueSize - 1 - token);
    }
    for (const auto& drive : drives_) {
        if (drive->image) {
            drive->disk = TRY(drive->image->open_queue(context.loop(), *drive));
        }
    }
    return {};
}

void VirtioScsi::process_queue(Queue& queue) {
    if (queue.index() == kEventQueue) {
        return;  // buffers for events stay with us: nothing is ever hot-plugged here
    }
    if (queue.index() == kControlQueue) {
        while (auto chain = queue.next_chain()) {
            handle_control(*chain);
        }
        return;
    }
    if (waiting_) {
        std::optional<Chain> chain = std::exchange(waiting_, std::nullopt);
        if (handle_request(*chain) == Handled::DiskQueueFull) {
            waiting_ = std::move(chain);
            return;
        }
    }
    while (auto chain = queue.next_chain()) {
        if (handle_request(*chain) == Handled::DiskQueueFull) {
            waiting_ = std::move(chain);
            break;
        }
    }
    for (const auto& drive : drives_) {
        if (drive->disk) {
            drive->disk->kick();
        }
    }
}

size_t VirtioScsi::response_size() const {
    return kResponseHeaderSize + running_sense_size_;
}

// §5.6.6.1: byte 0 is 1, byte 1 the target, bytes 2 and 3 a flat LUN.
VirtioScsi::Drive* VirtioScsi::find_drive(std::span<const uint8_t, 8> lun, uint8_t& response) {
    constexpr uint8_t kFlat = 0x40;
    const bool first_lun = (lun[2] == 0 || lun[2] == kFlat) && lun[3] == 0;
    if (lun[0] != 1 || lun[1] >= drives_.size()) {
        response = kBadTarget;
        return nullptr;
    }
    if (!first_lun) {
        response = kIncorrectLun;
        return nullptr;
    }
    return drives_[lun[1]].get();
}

VirtioScsi::Handled VirtioScsi::handle_request(Chain& chain) {
    std::array<uint8_t, kRequestHeaderSize + kSizeMax> raw{};
    const size_t wanted = kRequestHeaderSize + running_cdb_size_;
    const size_t got = chain.copy_out(0, std::as_writable_bytes(std::span(raw).first(wanted)));
    if (got < wanted || chain.writable_size() < response_size()) {
        malformed_.increment();
        Chain(std::move(chain));
        return Handled::Yes;
    }
    uint8_t response = kFailure;
    Drive* drive = find_drive(std::span<const uint8_t, 8>(raw.data(), 8), response);
    if (drive == nullptr) {
        respond_failure(chain, response == kIncorrectLun ? kBadTarget : response);
        return Handled::Yes;
    }
    const auto cdb = std::span<const uint8_t>(raw).subspan(kRequestHeaderSize, running_cdb_size_);
    const ScsiReply reply = drive->cdrom.execute(cdb);
    if (reply.read) {
        return start_read(chain, *drive, *reply.read);
    }
    commands_.increment();
    respond(chain, reply, 0);
    return Handled::Yes;
}

VirtioScsi::Handled VirtioScsi::start_read(Chain& chain, Drive& drive,
                                           const ScsiReply::Extent& extent) {
    if (free_tokens_.empty()) {
        return Handled::DiskQueueFull;
    }
    const uint64_t room = chain.writable_size() - response_size();
    const uint64_t size = std::min(extent.size, room) / 512 * 512;
    if (size == 0 || !drive.disk) {
        commands_.increment();
        respond(chain, drive.disk ? ScsiReply{} : scsi_read_error(), 0);
        return Handled::Yes;
    }
    const uint32_t token = free_tokens_.back();
    scratch_.operation = DiskOperation::Read;
    scratch_.offset = extent.offset;
    scratch_.size = size;
    scratch_.token = token;
    scratch_.vectors.clear();
    chain.writable_vectors(response_size(), size, scratch_.vectors);
    pending_[token] = {std::move(chain), size};  // a completion may come from inside submit()
    free_tokens_.pop_back();
    if (drive.disk->submit(scratch_)) {
        return Handled::Yes;
    }
    chain = std::move(*pending_[token].chain);
    pending_[token].chain.reset();
    free_tokens_.push_back(token);
    return Handled::DiskQueueFull;
}

void VirtioScsi::finish_read(uint32_t token, int result) {
    Pending& pending = pending_[token];
    KUMOI_ASSERT(pending.chain.has_value());
    if (result == 0) {
        reads_.increment();
        read_bytes_.increment(pending.size);
        respond(*pending.chain, ScsiReply{}, pending.size);
    } else {
        respond(*pending.chain, scsi_read_error(), 0);
    }
    pending.chain.reset();
    free_tokens_.push_back(token);
}

// `data_size`: bytes that are in the chain already, behind the response.
void VirtioScsi::respond(Chain& chain, const ScsiReply& reply, uint64_t data_size) {
    const uint64_t room = chain.writable_size() - response_size();
    const uint64_t copied = std::min<uint64_t>(reply.data.size(), room);
    chain.copy_in(response_size(), std::as_bytes(std::span(reply.data).first(copied)));
    const uint64_t transferred = data_size + copied;
    const size_t sense_size = std::min<size_t>(reply.sense.size(), running_sense_size_);
    Response header;
    header.sense_length = static_cast<uint32_t>(sense_size);
    header.residual = static_cast<uint32_t>(std::min<uint64_t>(room - transferred, UINT32_MAX));
    header.status = reply.status;
    header.response = kOk;
    errors_.increment(reply.status == scsi::kGood ? 0 : 1);
    chain.copy_in(0, std::as_bytes(std::span(&header, 1)));
    chain.copy_in(sizeof header, std::as_bytes(std::span(reply.sense).first(sense_size)));
    chain.add_used(static_cast<uint32_t>(response_size() + transferred));
    Chain(std::move(chain));
}

void VirtioScsi::respond_failure(Chain& chain, uint8_t response) {
    Response header;
    header.response = response;
    chain.copy_in(0, std::as_bytes(std::span(&header, 1)));
    chain.add_used(sizeof header);
    Chain(std::move(chain));
}

// §5.6.6.2. Whatever could be aborted is a read that ends in its own time, before its chain is
// returned: the function is complete as far as the driver can see.
void VirtioScsi::handle_control(Chain& chain) {
    std::array<uint8_t, 24> raw{};
    const size_t got = chain.copy_out(0, std::as_writable_bytes(std::span(raw)));
    uint32_t type = 0;
    std::memcpy(&type, raw.data(), sizeof type);
    if (got >= raw.size() && type == kTaskManagement && chain.writable_size() >= 1) {
        uint32_t subtype = 0;
        std::memcpy(&subtype, &raw[4], sizeof subtype);
        uint8_t response = kFunctionComplete;
        const bool known = subtype <= kSubtypeResetMax;
        if (find_drive(std::span<const uint8_t, 8>(&raw[8], 8), response) != nullptr && !known) {
            response = kFunctionRejected;
        }
        chain.copy_in(0, std::as_bytes(std::span(&response, 1)));
        chain.add_used(1);
    } else if (got >= 16 && (type == kNotificationQuery || type == kNotificationSubscribe) &&
               chain.writable_size() >= 5) {
        const std::array<uint8_t, 5> none{};  // no asynchronous events, response OK
        chain.copy_in(0, std::as_bytes(std::span(none)));
        chain.add_used(none.size());
    } else {
        malformed_.increment();
    }
    Chain(std::move(chain));
}

void VirtioScsi::quiesce() {
    for (const auto& drive : drives_) {
        if (drive->disk) {
            drive->disk->drain();
        }
    }
    if (waiting_) {
        context_->queue(kRequestQueue)->put_back(std::move(*waiting_));
        waiting_.reset();
    }
}

void VirtioScsi::stop() {
    for (const auto& drive : drives_) {
        drive->disk.reset();
        drive->cdrom.reset();
    }
    pending_.clear();
    context_ = nullptr;
    sense_size_ = kSenseSizeDefault;
    cdb_size_ = kCdbSizeDefault;
}

namespace {
constexpr uint16_t kFieldSenseSize = 1;
constexpr uint16_t kFieldCdbSize = 2;
constexpr uint16_t kFieldDrive = 3;
}  // namespace

void VirtioScsi::save(SectionWriter& out) const {
    out.u64(kFieldSenseSize, sense_size_).u64(kFieldCdbSize, cdb_size_);
    for (const auto& drive : drives_) {
        SectionWriter section("cdrom", 1);
        drive->cdrom.save(section);
        out.group(kFieldDrive, section);
    }
}

Result<void> VirtioScsi::load(SectionReader& in) {
    sense_size_ = static_cast<uint32_t>(TRY(in.u64_max(kFieldSenseSize, kSizeMax)));
    cdb_size_ = static_cast<uint32_t>(TRY(in.u64_max(kFieldCdbSize, kSizeMax)));
    auto sections = TRY(in.groups(kFieldDrive));
    if (sections.size() != drives_.size()) {
        return in.refuse(kFieldDrive, fmt::format("there are {} drives, the machine has {}",
                                                  sections.size(), drives_.size()));
    }
    for (size_t i = 0; i < sections.size(); ++i) {
        TRY(drives_[i]->cdrom.load(sections[i]));
    }
    return {};
}

DeviceStatistics VirtioScsi::statistics() const {
    return {{"commands", commands_.value()},
            {"reads", reads_.value()},
            {"read_bytes", read_bytes_.value()},
            {"errors", errors_.value()},
            {"malformed_chains", malformed_.value()}};
}

}  // namespace kumoi::hypervisor
