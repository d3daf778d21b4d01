// Backups, snapshots, flattening and commits of a disk that is written to all the time.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/file.h"
#include "hypervisor/block/disk_open.h"
#include "hypervisor/block/live/backup_job.h"
#include "hypervisor/block/live/disk_control.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/check.h"
#include "hypervisor/block/qcow2/offline.h"
#include "hypervisor/block/qcow2/qcow2_image.h"
#include "hypervisor/vmm_snapshot.h"
#include "tests/support/busy_disk.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kSize = (8u << 20) + 20480;  // ends inside a cluster
constexpr uint64_t kBlocks = kSize / BusyDisk::kBlock;

class DiskJobs : public testing::Test {
protected:
    std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

    // A disk over a raw base that is full of 'b'.
    void open_clone(uint64_t size = kSize) {
        std::ofstream(path("base"), std::ios::binary) << std::string(kSize, 'b');
        qcow2::CreateOptions options{.size = size};
        options.backing_file = "base";
        options.backing_format = "raw";
        ASSERT_TRUE(qcow2::create_image_file(direct_files(), path("disk"), options).ok());
        open(DiskFormat::Qcow2);
        first_ = BusyDisk::Model(kBlocks, 'b');
    }
    void open_raw() {
        std::ofstream(path("disk"), std::ios::binary) << std::string(kSize, 'r');
        open(DiskFormat::Raw);
        first_ = BusyDisk::Model(kBlocks, 'r');
    }
    void open(DiskFormat format) {
        auto opened = open_disk(direct_files(), {.path = path("disk"), .format = format});
        ASSERT_TRUE(opened.ok()) << opened.error().text();
        disk_ = std::move(opened).value();
    }
    void let_the_guest_write(uint64_t seed = 1) {
        guest_ = std::make_unique<BusyDisk>(*disk_, first_, seed);
        DiskControl::Machine machine;
        machine.disk = [this](const std::string& id) -> Result<DiskImage*> {
            if (id != "root") {
                return Error::not_found("there is no disk {}", id);
            }
            return disk_.get();
        };
        machine.with_disk_still = [this](const std::string&, const auto& run) -> Result<void> {
            if (never_still_) {
                return Error::unavailable("a vCPU does not stop");
            }
            return guest_->stand_still([&] {
                before_ = guest_->model();
                return run();
            });
        };
        machine.event = [this](const ControlEvent& event) {
            events_.push_back(event);
            loop_.stop();
        };
        machine.disk_moved = [this](const std::string&, const std::string& to) { moved_to_ = to; };
        control_ = std::make_unique<DiskControl>(loop_, direct_files(), clock_, std::move(machine));
        write_more(200);
    }
    void write_more(uint64_t count) {
        const uint64_t until = guest_->writes() + count;
        while (guest_->writes() < until) {
            std::this_thread::yield();
        }
    }
    Result<Json> call(const std::string& method, Json params) {
        ControlRequest request;
        request.method = method;
        params.set("disk", "root");
        request.params = std::move(params);
        auto answer = control_->handle(request);
        EXPECT_TRUE(answer.has_value());
        return std::move(*answer);
    }
    // Begins a job; returns the disk's contents at that moment.
    BusyDisk::Model begin(const std::string& method, Json params) {
        const auto begun = call(method, std::move(params));
        EXPECT_TRUE(begun.ok()) << begun.error().text();
        return before_;
    }
    void expect_done() {
        loop_.run();
        ASSERT_FALSE(events_.empty());
        EXPECT_EQ(events_.back().name, "disk_job_done") << events_.back().data.dump();
    }
    // What a guest that boots from the file would see.
    void expect_contents(const std::string& file, const std::string& format,
                         const BusyDisk::Model& model) {
        qcow2::BlockingPort port;
        qcow2::ChainOptions options;
        options.lock = false;
        auto source = qcow2::open_source(direct_files(), port, {file, format}, options);
        ASSERT_TRUE(source.ok()) << source.error().text();
        ASSERT_EQ((*source)->size(), model.size() * BusyDisk::kBlock);
        std::vector<uint8_t> bytes(BusyDisk::kBlock);
        for (uint64_t block = 0; block < model.size(); ++block) {
            const iovec vector{bytes.data(), bytes.size()};
            ASSERT_EQ(qcow2::run_inline((*source)->read(port, block * bytes.size(),
                                                        std::span(&vector, 1), bytes.size())),
                      0);
            ASSERT_EQ(bytes, std::vector<uint8_t>(bytes.size(), model[block])) << "block " << block;
        }
        if (format == "qcow2" && (!disk_ || file != path("disk")) &&  // qemu-img wants a lock
            ::access("/usr/bin/qemu-img", X_OK) == 0) {
            EXPECT_EQ(std::system(("qemu-img check -q -f qcow2 " + file).c_str()), 0);
        }
    }
    // The guest ends; its disk has what it wrote.
    void expect_disk(const std::string& format = "qcow2") {
        guest_->stop();
        EXPECT_EQ(guest_->failures(), 0);
        const std::string file = disk_->name();
        control_.reset();
        disk_.reset();
        expect_contents(file, format, guest_->model());
    }
    Json backup(const std::string& target) { return Json::object({{"target", path(target)}}); }
    uint64_t dirty_bytes() const {
        const auto bitmaps = disk_->live()->qcow2()->bitmaps().list();
        return bitmaps.empty() ? 0 : bitmaps[0].dirty_bytes;
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("disk_jobs").value();
    SystemClock clock_;
    EventLoop loop_{clock_};
    std::unique_ptr<DiskImage> disk_;
    BusyDisk::Model first_;
    std::unique_ptr<BusyDisk> guest_;
    std::unique_ptr<DiskControl> control_;
    BusyDisk::Model before_;
    std::vector<ControlEvent> events_;
    std::string moved_to_;
    bool never_still_ = false;
};

TEST_F(DiskJobs, OverlaysForAnInstantAreCheckedFirstAndEnteredTogether) {
    open_clone();
    let_the_guest_write();
    const std::vector<OverlayRequest> twice = {{"root", path("a"), ""}, {"root", path("b"), ""}};
    EXPECT_EQ(control_->open_overlays(twice).error().code, ErrorCode::InvalidArgument);
    const std::vector<OverlayRequest> unknown = {{"data", path("c"), ""}};
    EXPECT_EQ(control_->open_overlays(unknown).error().code, ErrorCode::NotFound);
    EXPECT_EQ(disk_->name(), path("disk"));  // nothing moved

    const std::vector<OverlayRequest> one = {{"root", path("overlay"), "disk"}};
    auto overlays = control_->open_overlays(one);
    ASSERT_TRUE(overlays.ok()) << overlays.error().text();
    EXPECT_EQ(overlays->json().as_array().size(), 0u);  // none is entered yet
    BusyDisk::Model instant;
    ASSERT_TRUE(guest_
                    ->stand_still([&] {
                        instant = guest_->model();
                        return overlays->enter();
                    })
                    .ok());
    control_->entered(*overlays);
    EXPECT_EQ(moved_to_, path("overlay"));
    EXPECT_EQ(overlays->json().dump(),
              fmt::format(R"([{{"disk":"root","overlay":"{}","below":"{}"}}])", path("overlay"),
                          path("disk")));
    write_more(200);
    expect_disk();
    expect_contents(path("disk"), "qcow2", instant);
}

TEST(SaveRequest, NamesTheOverlaysOfItsInstant) {
    const auto parse = [](const std::string& overlays) {
        return SaveRequest::parse(
            Json::parse(R"({"path": "/s", "mode": "live", "overlays": )" + overlays + "}").value());
    };
    const auto good = parse(R"([{"disk": "root", "overlay": "/o", "backing": "b"}])");
    ASSERT_TRUE(good.ok()) << good.error().text();
    ASSERT_EQ(good->overlays.size(), 1u);
    EXPECT_EQ(good->overlays[0].path, "/o");
    EXPECT_TRUE(parse("null")->overlays.empty());
    for (const auto* wrong :
         {"{}", "[1]", R"([{"disk": "root"}])", R"([{"disk": "root", "overlay": "relative"}])",
          R"([{"disk": "root", "overlay": "/o", "more": 1}])"}) {
        EXPECT_FALSE(parse(wrong).ok()) << wrong;
    }
}

TEST_F(DiskJobs, ABackupIsTheDiskAtTheMomentOfTheCall) {
    open_clone();
    let_the_guest_write();
    for (const std::string format : {"qcow2", "raw"}) {
        Json params = backup("full." + format);
        params.set("format", format);
        const auto model = begin("disk_backup", std::move(params));
        expect_done();
        write_more(100);
        expect_contents(path("full." + format), format, model);
    }
    expect_disk();
}

TEST_F(DiskJobs, ARawDiskIsBackedUpToo) {
    open_raw();
    let_the_guest_write();
    const auto model = begin("disk_backup", backup("full"));
    expect_done();
    expect_contents(path("full"), "qcow2", model);
    expect_disk("raw");
}

TEST_F(DiskJobs, AChainOfIncrementalBackupsIsEachMomentsDisk) {
    open_clone();
    let_the_guest_write();
    Json params = backup("0");
    params.set("bitmap", "nightly");
    std::vector<BusyDisk::Model> models = {begin("disk_backup", std::move(params))};
    expect_done();
    for (int i = 1; i <= 4; ++i) {
        write_more(50);
        params = backup(std::to_string(i));
        params.set("bitmap", "nightly");
        params.set("mode", "incremental");
        params.set("backing", std::to_string(i - 1));
        models.push_back(begin("disk_backup", std::move(params)));
        expect_done();
    }
    for (size_t i = 0; i < models.size(); ++i) {
        expect_contents(path(std::to_string(i)), "qcow2", models[i]);
    }
    expect_disk();
}

TEST_F(DiskJobs, AnIncrementalBackupHoldsOnlyWhatChanged) {
    open_clone();
    qcow2::DirtyBitmaps& bitmaps = disk_->live()->qcow2()->bitmaps();
    ASSERT_TRUE(bitmaps.add("b", 0, true).ok());
    ASSERT_TRUE(bitmaps.mark("b", {{5 << 20, 4096}, {kSize - 4096, 4096}}).ok());
    auto target = BackupTarget::create(direct_files(),
                                       {.path = path("i"), .size = kSize, .backing_file = "base"});
    ASSERT_TRUE(target.ok());
    BackupJob job(*disk_->live(), std::move(*target),
                  {.mode = BackupJob::Mode::Incremental, .bitmap = "b"});
    ASSERT_TRUE(job.begin().ok());
    job.start([] {});
    ASSERT_TRUE(job.finish());
    EXPECT_EQ(job.status().integer_or("done_bytes"), 65536 + 20480);  // the last granule is short
    disk_->live()->set_gate(nullptr);
    EXPECT_LT(*file_size(path("i")), 1u << 20);
}

TEST_F(DiskJobs, AGuestsWriteWaitsForTheCopyAndNothingElseDoes) {
    open_clone();
    struct Client final : DiskClient {
        void disk_completed(uint32_t token, int result) override {
            done.push_back(token);
            EXPECT_EQ(result, 0);
        }
        void disk_batch_done() override {}
        std::vector<uint32_t> done;
    } client;
    auto queue = disk_->open_queue(loop_, client).value();
    auto second = disk_->open_queue(loop_, client).value();  // of the same thread
    auto target =
        BackupTarget::create(direct_files(), {.path = path("full"), .size = kSize}).value();
    BackupJob job(*disk_->live(), std::move(target), {});
    ASSERT_TRUE(job.begin().ok());
    std::vector<std::byte> bytes(4096, std::byte{'n'});
    const auto submit = [&](DiskQueue& to, DiskOperation operation, uint64_t at, uint32_t token) {
        DiskRequest request;
        request.operation = operation;
        request.token = token;
        if (operation != DiskOperation::Flush) {
            request.offset = at;
            request.size = bytes.size();
            request.vectors = {{bytes.data(), bytes.size()}};
        }
        ASSERT_TRUE(to.submit(request));
        to.kick();
    };
    submit(*queue, DiskOperation::Write, 1 << 20, 1);
    submit(*second, DiskOperation::Write, 2 << 20, 2);
    submit(*queue, DiskOperation::Flush, 0, 3);
    std::vector<std::byte> read(4096);
    std::swap(bytes, read);
    submit(*queue, DiskOperation::Read, 1 << 20, 4);
    std::swap(bytes, read);
    while (client.done.size() < 2) {
        loop_.run_ready();
    }
    EXPECT_EQ(read[0], std::byte{'b'});
    EXPECT_EQ(std::count(client.done.begin(), client.done.end(), 1u), 0);
    EXPECT_EQ(std::count(client.done.begin(), client.done.end(), 2u), 0);
    job.start([] {});
    queue->drain();  // a pause comes while requests are held back
    second->drain();
    EXPECT_EQ(client.done.size(), 4u);
    ASSERT_TRUE(job.finish());
    EXPECT_EQ(job.status().string_or("state"), "done");
    disk_->live()->set_gate(nullptr);
    expect_contents(path("full"), "qcow2", BusyDisk::Model(kBlocks, 'b'));
    queue.reset();
    second.reset();
}

TEST_F(DiskJobs, ABackupThatFailsGivesTheBitmapBack) {
    open_clone();
    let_the_guest_write();
    ASSERT_TRUE(call("bitmap_add", Json::object({{"name", "b"}})).ok());
    write_more(100);
    guest_->stop();
    const uint64_t dirty = dirty_bytes();
    ASSERT_GT(dirty, 0u);
    {
        auto target =
            BackupTarget::create(direct_files(), {.path = path("t"), .size = kSize}).value();
        BackupJob job(*disk_->live(), std::move(target), {.bitmap = "b"});
        ASSERT_TRUE(job.begin().ok());
        EXPECT_EQ(dirty_bytes(), 0u);
    }
    EXPECT_EQ(dirty_bytes(), dirty);
    disk_->live()->set_gate(nullptr);
    expect_disk();
}

TEST_F(DiskJobs, ACancelledBackupLetsTheGuestGoOn) {
    open_clone();
    let_the_guest_write();
    begin("disk_backup", backup("full"));
    (void)call("disk_job_cancel", Json::object());  // it may have ended already
    loop_.run();
    write_more(200);
    const auto again = call("disk_backup", backup("again"));
    ASSERT_TRUE(again.ok()) << again.error().text();
    expect_done();
    expect_disk();
}

TEST_F(DiskJobs, TheDiskMayCloseWhileItIsBackedUp) {
    open_clone();
    let_the_guest_write();
    begin("disk_backup", backup("full"));
    expect_disk();
}

TEST_F(DiskJobs, ASnapshotKeepsTheMomentAndTheGuestGoesOnInTheOverlay) {
    open_clone();
    let_the_guest_write();
    ASSERT_TRUE(call("bitmap_add", Json::object({{"name", "b"}})).ok());
    write_more(50);
    const auto model = begin("disk_snapshot", Json::object({{"overlay", path("overlay")}}));
    EXPECT_EQ(moved_to_, path("overlay"));
    write_more(300);
    const auto listed = call("bitmap_list", Json::object());
    ASSERT_TRUE(listed.ok());
    EXPECT_EQ(listed->find("bitmaps")->size(), 1u);  // it records on
    expect_contents(path("disk"), "qcow2", model);
    EXPECT_EQ(disk_->name(), path("overlay"));
    expect_disk();
    expect_contents(path("disk"), "qcow2", model);
}

TEST_F(DiskJobs, FlatteningMakesTheDiskIndependent) {
    open_clone();
    let_the_guest_write();
    begin("disk_flatten", Json::object());
    EXPECT_FALSE(call("disk_flatten", Json::object()).ok());  // one job at a time
    expect_done();
    write_more(100);
    ASSERT_TRUE(remove_file(path("base")).ok());
    EXPECT_FALSE(call("disk_flatten", Json::object()).ok());  // there is nothing below any more
    expect_disk();
}

TEST_F(DiskJobs, ACommitMergesBackWhileTheGuestWrites) {
    open_clone();
    let_the_guest_write();
    for (const std::string name : {"one", "two"}) {
        begin("disk_snapshot", Json::object({{"overlay", path(name)}}));
        write_more(300);
    }
    begin("disk_commit", Json::object());
    expect_done();
    EXPECT_EQ(moved_to_, path("one"));
    ASSERT_TRUE(remove_file(path("two")).ok());
    write_more(100);
    begin("disk_commit", Json::object());
    expect_done();
    EXPECT_EQ(disk_->name(), path("disk"));
    ASSERT_TRUE(remove_file(path("one")).ok());
    write_more(100);
    const auto refused = call("disk_commit", Json::object());
    ASSERT_FALSE(refused.ok());  // never into an image of the cache
    EXPECT_EQ(refused.error().code, ErrorCode::Unsupported);
    expect_disk();
}

TEST_F(DiskJobs, ACommitCutShortLosesNothing) {
    open_clone();
    let_the_guest_write();
    begin("disk_snapshot", Json::object({{"overlay", path("overlay")}}));
    write_more(300);
    begin("disk_commit", Json::object());
    expect_disk();  // closes everything in the middle
}

TEST_F(DiskJobs, NobodyElsesImageIsCommittedTo) {
    open_clone();
    let_the_guest_write();
    begin("disk_snapshot", Json::object({{"overlay", path("overlay")}}));
    auto reader = open_disk(direct_files(),
                            {.path = path("disk"), .format = DiskFormat::Qcow2, .read_only = true});
    ASSERT_TRUE(reader.ok()) << reader.error().text();
    const auto refused = call("disk_commit", Json::object());
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Conflict);
    reader->reset();
    begin("disk_commit", Json::object());
    expect_done();
    expect_disk();
}

TEST_F(DiskJobs, WhatCannotEndInPeaceChangesNothing) {
    open_clone();
    let_the_guest_write();
    for (const std::string method : {"disk_backup", "disk_flatten"}) {
        never_still_ = false;
        begin(method, method == "disk_backup" ? backup("full") : Json::object());
        never_still_ = true;
        loop_.run();
        EXPECT_EQ(events_.back().name,
                  method == "disk_backup" ? "disk_job_done" : "disk_job_failed");
        EXPECT_NE(disk_->live()->qcow2()->store().backing(), nullptr);
        write_more(100);
    }
    never_still_ = false;
    begin("disk_flatten", Json::object());
    expect_done();
    expect_disk();
}

TEST_F(DiskJobs, RefusesWhatItCannotDo) {
    open_raw();
    let_the_guest_write();
    std::ofstream(path("precious"), std::ios::binary) << "precious";
    const std::pair<std::string, Json> requests[] = {
        {"disk_backup", Json::object({{"target", "relative"}})},
        {"disk_backup", backup("precious")},
        {"disk_backup", Json::object({{"target", path("t1")}, {"mode", "incremental"}})},
        {"disk_backup", Json::object({{"target", path("t2")}, {"bitmap", "b"}})},
        {"disk_backup", Json::object({{"target", path("t3")}, {"format", "vmdk"}})},
        {"disk_backup", Json::object({{"target", path("t4")}, {"backing", "x"}})},
        {"disk_snapshot", Json::object({{"overlay", path("o")}})},
        {"disk_flatten", Json::object()},
        {"disk_commit", Json::object()},
        {"disk_job_cancel", Json::object()},
        {"bitmap_add", Json::object({{"name", "b"}})},
        {"bitmap_clear", Json::object({{"name", "b"}})},
        {"disk_job", Json::object({{"speed", 1}})},
    };
    for (const auto& [method, params] : requests) {
        EXPECT_FALSE(call(method, params).ok()) << method << " " << params.dump();
    }
    EXPECT_EQ(*read_file(path("precious")), "precious");
    EXPECT_EQ(call("disk_job", Json::object())->string_or("state"), "idle");
    expect_disk("raw");
}

}  // namespace
}  // namespace kumoi::hypervisor
