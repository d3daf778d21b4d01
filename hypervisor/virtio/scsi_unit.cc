#include "hypervisor/virtio/scsi_unit.h"

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "hypervisor/scsi/cdrom.h"
#include "hypervisor/scsi/disk.h"

namespace kumoi::hypervisor {

namespace {

// Stands where a drive has no medium, so that the rest need not ask.
class NoMedium final : public DiskImage {
public:
    std::string name() const override { return "no medium"; }
    uint64_t size() const override { return 0; }
    bool read_only() const override { return true; }
    uint32_t block_size() const override { return 512; }
    bool write_cache() const override { return false; }
    bool can_discard() const override { return false; }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& /*loop*/,
                                                  DiskClient& /*client*/) override {
        return Error::unsupported("there is no medium to read");
    }
};

std::string serial_of(const ScsiUnitConfig& config) {
    return config.serial.empty() ? config.id : config.serial;
}

std::unique_ptr<DiskImage> image_of(ScsiUnitConfig& config) {
    return config.image ? std::move(config.image) : std::make_unique<NoMedium>();
}

}  // namespace

ScsiUnit::ScsiUnit(ScsiUnitConfig config, uint32_t requests_max, Hooks hooks)
    : target_(config.target),
      id_(config.id),
      hooks_(std::move(hooks)),
      image_(image_of(config)),
      shared_{.image = *image_, .serial = serial_of(config)},
      stream_(shared_, *this, requests_max) {
    shared_.write_cache = image_->write_cache();
    if (config.kind == ScsiUnitConfig::Kind::Disk) {
        auto disk = std::make_unique<ScsiDisk>(*image_, shared_.write_cache, shared_.serial);
        disk_ = disk.get();
        commands_ = std::move(disk);
    } else {
        commands_ = std::make_unique<Cdrom>(image_->size(), shared_.serial);
    }
}

ScsiUnit::~ScsiUnit() = default;

Result<void> ScsiUnit::set_limits(const DiskLimits& limits, int64_t now_ns) {
    TRY(check_limits(limits));
    shared_.throttle.set(limits, now_ns);
    return {};
}

DiskLimits ScsiUnit::limits() const {
    return shared_.throttle.limits();
}

// --- Life ---

Result<void> ScsiUnit::start(EventLoop& loop, const Clock& clock, const ScsiFrame& frame) {
    frame_ = frame;
    pending_ = std::vector<Pending>(stream_.size());
    image_->on_resize([this] { hooks_.resized(target_); });
    return image_->size() == 0 ? Result<void>() : stream_.start(loop, clock);
}

void ScsiUnit::quiesce() {
    stream_.quiesce();
}

void ScsiUnit::stop() {
    image_->on_resize({});
    stream_.stop();
    pending_.clear();
    commands_->reset();
    shared_.write_cache = image_->write_cache();  // what the operator chose
}

void ScsiUnit::logical_unit_reset() {
    commands_->logical_unit_reset();
}

void ScsiUnit::capacity_changed() {
    if (disk_ != nullptr) {
        disk_->capacity_changed();
    }
}

// --- Requests ---

void ScsiUnit::start_waiting() {
    if (stream_.started()) {
        stream_.start_waiting();
    }
}

void ScsiUnit::kick() {
    if (stream_.started()) {
        stream_.kick();
    }
}

void ScsiUnit::handle(Chain& chain, std::span<const uint8_t> cdb) {
    const size_t wanted = std::min(commands_->parameter_size(cdb), scsi::kParameterBytesMax);
    if (frame_.data_out_size(chain) < wanted) {
        refused_.increment();
        return ScsiFrame::fail(chain, ScsiFrame::kOverrun);
    }
    std::vector<uint8_t> parameters(wanted);
    chain.copy_out(frame_.data_out_offset(), std::as_writable_bytes(std::span(parameters)));
    ScsiReply reply = commands_->execute(cdb, parameters);
    if (reply.transfer) {
        return transfer(chain, reply);
    }
    answer(chain, reply, {.out = wanted});
}

// A read gets what its buffer has room for; a write whose data is not there is not begun.
void ScsiUnit::transfer(Chain& chain, ScsiReply& reply) {
    ScsiReply::Transfer& asked = *reply.transfer;
    const bool from_guest = asked.operation == DiskOperation::Write && asked.pattern.empty();
    if (from_guest && frame_.data_out_size(chain) < asked.size) {
        refused_.increment();
        return ScsiFrame::fail(chain, ScsiFrame::kOverrun);
    }
    if (asked.operation == DiskOperation::Read) {
        const uint32_t block = image_->block_size();
        asked.size = std::min(asked.size, frame_.data_in_size(chain)) / block * block;
    }
    const bool nothing = asked.size == 0 && asked.operation != DiskOperation::Flush;
    if (nothing || !stream_.started()) {
        const ScsiReply done = nothing ? ScsiReply{} : commands_->failed(asked.operation, -EIO);
        return answer(chain, done, {});
    }
    std::vector<iovec>& vectors = stream_.scratch().vectors;
    vectors.clear();
    stream_.scratch().may_unmap = asked.may_unmap;
    Pending& pending = pending_[stream_.next_token()];
    pending.operation = asked.operation;
    pending.size = asked.size;
    pending.pattern = std::move(asked.pattern);
    if (asked.operation == DiskOperation::Read) {
        chain.writable_vectors(frame_.data_in_offset(), asked.size, vectors);
    } else if (from_guest) {
        chain.readable_vectors(frame_.data_out_offset(), asked.size, vectors);
    } else if (asked.operation == DiskOperation::Write) {
        for (uint64_t done = 0; done < asked.size; done += pending.pattern.size()) {
            const size_t part = std::min<uint64_t>(pending.pattern.size(), asked.size - done);
            vectors.push_back({pending.pattern.data(), part});
        }
    }
    pending.chain.emplace(std::move(chain));
    stream_.accept({.operation = asked.operation,
                    .offset = asked.offset,
                    .size = asked.size,
                    .durable = asked.durable});
}

void ScsiUnit::request_done(uint32_t token, int result) {
    Pending& pending = pending_[token];
    KUMOI_ASSERT(pending.chain.has_value());
    ScsiFrame::Transferred moved;
    moved.in = pending.operation == DiskOperation::Read ? pending.size : 0;
    moved.out = pending.operation == DiskOperation::Read
                    ? 0
                    : std::min(pending.size, frame_.data_out_size(*pending.chain));
    if (result == 0) {
        answer(*pending.chain, ScsiReply{}, moved);
    } else {
        answer(*pending.chain, commands_->failed(pending.operation, result), {});
    }
    pending = {};
}

void ScsiUnit::answer(Chain& chain, const ScsiReply& reply,
                      const ScsiFrame::Transferred& transferred) {
    errors_.increment(reply.status == scsi::kGood ? 0 : 1);
    frame_.answer(chain, reply, transferred);
}

// The names are those of a virtio disk.
DeviceStatistics ScsiUnit::statistics() const {
    const BlockCounters& counters = stream_.counters();
    return {{"reads", counters.reads.value()},
            {"read_bytes", counters.read_bytes.value()},
            {"writes", counters.writes.value()},
            {"write_bytes", counters.write_bytes.value()},
            {"flushes", counters.flushes.value()},
            {"discards", counters.discards.value()},
            {"write_zeroes", counters.write_zeroes.value()},
            {"errors", errors_.value()},
            {"malformed_chains", refused_.value()},
            {"throttled", counters.throttled.value()}};
}

// --- Snapshots: nothing is in flight ---

namespace {
constexpr uint16_t kFieldWriteCache = 0x40;  // beside the fields of the target itself
}  // namespace

void ScsiUnit::save(SectionWriter& out) const {
    commands_->save(out);
    if (disk_ != nullptr) {
        out.flag(kFieldWriteCache, shared_.write_cache);
    }
}

Result<void> ScsiUnit::load(SectionReader& in) {
    TRY(commands_->load(in));
    if (disk_ != nullptr) {
        shared_.write_cache = TRY(in.flag(kFieldWriteCache));
    }
    return {};
}

}  // namespace kumoi::hypervisor
