// The verbs on a running disk in any order: writes, zeroes, backups full and incremental,
// snapshots, commits, flattening, bitmaps, cancellations, requests that make no sense. A model in
// memory knows what the disk and each finished backup must read as.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "hypervisor/block/disk_open.h"
#include "hypervisor/block/live/disk_control.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/create.h"
#include "hypervisor/block/qcow2/offline.h"

namespace {

using namespace kumoi;              // NOLINT: a test
using namespace kumoi::hypervisor;  // NOLINT: a test

constexpr uint64_t kBlock = 16384;
constexpr uint64_t kBlocks = 21;  // the last granule is short
using Model = std::vector<uint8_t>;

void require(bool holds) {
    if (!holds) {
        __builtin_trap();
    }
}

class Steps {
public:
    Steps(const uint8_t* data, size_t size) : data_(data), size_(size) {}
    bool left() const { return at_ < size_; }
    uint8_t next() { return left() ? data_[at_++] : uint8_t{0}; }
    std::string rest(size_t most) {
        const size_t count = std::min(most, size_ - at_);
        at_ += count;
        return {reinterpret_cast<const char*>(data_ + at_ - count), count};
    }

private:
    const uint8_t* data_;
    size_t size_;
    size_t at_ = 0;
};

// What somebody who opens the file reads.
Model contents(const std::string& file, const std::string& format) {
    qcow2::BlockingPort port;
    qcow2::ChainOptions options;
    options.lock = false;
    auto source = qcow2::open_source(direct_files(), port, {file, format}, options);
    require(source.ok() && (*source)->size() == kBlocks * kBlock);
    Model model;
    std::vector<uint8_t> bytes(kBlock);
    for (uint64_t block = 0; block < kBlocks; ++block) {
        const iovec vector{bytes.data(), bytes.size()};
        require(qcow2::run_inline(
                    (*source)->read(port, block * kBlock, std::span(&vector, 1), kBlock)) == 0);
        require(std::ranges::count(bytes, bytes[0]) == static_cast<std::ptrdiff_t>(kBlock));
        model.push_back(bytes[0]);
    }
    return model;
}

class World final : private DiskClient {
public:
    explicit World(bool raw) : raw_(raw) {
        const std::string base = path("base");
        require(write_file_atomic(base, std::string(kBlocks * kBlock, 'b')).ok());
        if (!raw) {
            qcow2::CreateOptions options{.size = kBlocks * kBlock};
            options.backing_file = "base";
            options.backing_format = "raw";
            require(qcow2::create_image_file(direct_files(), path("disk"), options).ok());
        } else {
            require(write_file_atomic(path("disk"), std::string(kBlocks * kBlock, 'b')).ok());
        }
        auto opened =
            open_disk(direct_files(), {.path = path("disk"),
                                       .format = raw ? DiskFormat::Raw : DiskFormat::Qcow2,
                                       .engine = DiskEngine::Threads});
        require(opened.ok());
        disk_ = std::move(*opened);
        queue_ = disk_->open_queue(loop_, *this).value();
        DiskControl::Machine machine;
        machine.disk = [this](const std::string& id) -> Result<DiskImage*> {
            return id == "root" ? Result<DiskImage*>(disk_.get()) : Error::not_found("no {}", id);
        };
        machine.with_disk_still = [this](const std::string&, const auto& run) -> Result<void> {
            queue_->drain();
            return run();
        };
        machine.event = [this](const ControlEvent& event) { ended(event); };
        machine.disk_moved = [](const std::string&, const std::string&) {};
        control_.emplace(loop_, direct_files(), clock_, std::move(machine));
    }
    ~World() override {
        wait();
        queue_->drain();
        queue_.reset();
        const std::string file = disk_->name();
        control_.reset();
        disk_.reset();
        require(contents(file, raw_ ? "raw" : "qcow2") == model_);
    }

    void guest(DiskOperation operation, uint8_t place, uint8_t value) {
        const uint64_t block = place % kBlocks;
        std::vector<std::byte> bytes(kBlock, std::byte{value});
        DiskRequest request;
        request.operation = operation;
        request.may_unmap = (place & 0x80) != 0;
        if (operation != DiskOperation::Flush) {
            request.offset = block * kBlock;
            request.size = kBlock;
        }
        if (operation == DiskOperation::Write || operation == DiskOperation::Read) {
            request.vectors = {{bytes.data(), bytes.size()}};
        }
        require(queue_->submit(request));
        queue_->kick();
        queue_->drain();  // may wait for a running backup's copy
        require(result_ == 0);
        if (operation == DiskOperation::Read) {
            require(std::ranges::count(bytes, std::byte{model_[block]}) ==
                    static_cast<std::ptrdiff_t>(kBlock));
        } else if (operation != DiskOperation::Flush) {
            model_[block] = operation == DiskOperation::Write ? value : uint8_t{0};
        }
    }

    bool call(const std::string& method, Json params) {
        params.set("disk", "root");
        ControlRequest request;
        request.method = method;
        request.params = std::move(params);
        auto answer = control_->handle(request);
        require(answer.has_value());
        return answer->ok();
    }

    void backup(uint8_t how) {
        const std::string bitmap(1, static_cast<char>('x' + how % 2));
        const bool incremental = (how & 4) != 0 && chains_.contains(bitmap);
        const bool with_bitmap = incremental || (how & 8) != 0;
        const bool as_raw = !incremental && (how & 16) != 0;
        Backup begun{path("backup" + std::to_string(++files_)), as_raw ? "raw" : "qcow2", model_,
                     with_bitmap ? bitmap : ""};
        Json params = Json::object({{"target", begun.path}, {"format", begun.format}});
        if (with_bitmap) {
            params.set("bitmap", bitmap);
        }
        if (incremental) {
            params.set("mode", "incremental");
            params.set("backing", chains_[bitmap]);
        }
        if (call("disk_backup", std::move(params))) {
            running_ = std::move(begun);
            busy_ = true;
        }
    }

    void job(const std::string& method) { busy_ = call(method, Json::object()) || busy_; }
    void snapshot() {
        (void)call("disk_snapshot",
                   Json::object({{"overlay", path("overlay" + std::to_string(++files_))}}));
    }
    void bitmap(const std::string& method, uint8_t which) {
        const std::string name(1, static_cast<char>('x' + which % 2));
        if (call(method, Json::object({{"name", name}}))) {
            chains_.erase(name);
        }
    }
    void cancel() { (void)call("disk_job_cancel", Json::object()); }
    void nonsense(const std::string& method, const std::string& text) {
        auto params = Json::parse(text);
        ControlRequest request;
        request.method = method;
        request.params = params.ok() ? std::move(*params) : Json::object();
        if (request.params.find("disk") == nullptr) {
            (void)control_->handle(request);  // without a disk nothing may begin
        }
    }
    void wait() {
        while (busy_) {
            loop_.run();
        }
    }

private:
    struct Backup {
        std::string path, format;
        Model model;
        std::string bitmap;
    };
    std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
    void disk_completed(uint32_t /*token*/, int result) override { result_ = result; }
    void disk_batch_done() override {}
    void ended(const ControlEvent& event) {
        busy_ = false;
        loop_.stop();
        const auto backup = std::exchange(running_, std::nullopt);
        if (!backup || event.name != "disk_job_done") {
            return;
        }
        require(contents(backup->path, backup->format) == backup->model);
        if (!backup->bitmap.empty()) {
            if (backup->format == "qcow2") {
                chains_[backup->bitmap] = backup->path;
            } else {
                chains_.erase(backup->bitmap);
            }
        }
    }

    const bool raw_;
    TemporaryDirectory directory_ = TemporaryDirectory::create("disk_jobs_fuzz").value();
    SystemClock clock_;
    EventLoop loop_{clock_};
    std::unique_ptr<DiskImage> disk_;
    std::unique_ptr<DiskQueue> queue_;
    std::optional<DiskControl> control_;
    Model model_ = Model(kBlocks, 'b');
    std::map<std::string, std::string> chains_;  // bitmap -> the backup that it counts from
    std::optional<Backup> running_;
    bool busy_ = false;
    int files_ = 0;
    int result_ = 0;
};

void step(World& world, Steps& steps) {
    switch (steps.next() % 16) {
        case 0:
        case 1:
        case 2: {
            const uint8_t place = steps.next();
            world.guest(DiskOperation::Write, place, steps.next());
            break;
        }
        case 3: world.guest(DiskOperation::WriteZeroes, steps.next(), 0); break;
        case 4: world.guest(DiskOperation::Read, steps.next(), 0xaa); break;
        case 5: world.guest(DiskOperation::Flush, 0, 0); break;
        case 6:
        case 7: world.backup(steps.next()); break;
        case 8: world.snapshot(); break;
        case 9: world.job("disk_commit"); break;
        case 10: world.job("disk_flatten"); break;
        case 11: world.bitmap("bitmap_add", steps.next()); break;
        case 12: {
            const uint8_t which = steps.next();
            world.bitmap((which & 2) != 0 ? "bitmap_remove" : "bitmap_clear", which);
            break;
        }
        case 13: world.cancel(); break;
        case 14: world.wait(); break;
        default: {
            constexpr const char* kMethods[] = {"disk_backup", "disk_snapshot", "bitmap_add",
                                                "bitmap_list", "disk_job"};
            const char* method = kMethods[steps.next() % std::size(kMethods)];
            world.nonsense(method, steps.rest(64));
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr size_t kStepsMax = 64;
    if (size < 2 || size > 4096) {
        return 0;
    }
    Steps steps(data, size);
    World world((steps.next() & 1) != 0);
    for (size_t i = 0; i < kStepsMax && steps.left(); ++i) {
        step(world, steps);
    }
    return 0;
}
