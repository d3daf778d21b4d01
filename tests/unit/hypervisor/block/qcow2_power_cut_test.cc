// Random workloads on a simulated disk, with the power cut at any step: no acknowledged flush is
// lost, no sector holds what was never written to it, and the image never contradicts itself.
// KUMOI_POWER_CUTS sets the number of runs per configuration.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <list>

#include "base/file.h"
#include "hypervisor/block/qcow2/check.h"
#include "hypervisor/block/qcow2/create.h"
#include "hypervisor/block/qcow2/store.h"
#include "tests/support/disk_sim.h"
#include "tests/support/sector_model.h"

namespace kumoi::hypervisor::qcow2 {
namespace {

using test::SectorModel;
using test::SimFile;
using test::SimPort;

struct Configuration {
    const char* name;
    CreateOptions create;
    uint64_t backing_size = 0;  // 0: none
};

class Workload {
public:
    Workload(const Configuration& configuration, uint64_t seed)
        : configuration_(configuration),
          random_(seed, "workload"),
          model_(configuration.create.size / SectorModel::kSector) {
        SimPort port;
        SimFile file;
        const auto made = create_image(port, file, configuration.create);
        EXPECT_TRUE(made.ok());
        content_ = file.now;
        if (configuration.backing_size > 0) {
            backing_.resize(configuration.backing_size);
        }
        for (uint64_t sector = 0; sector < model_.count(); ++sector) {
            const uint64_t value = (sector + 1) * 512 <= backing_.size() ? 0xb000'0000 + sector : 0;
            model_.set(sector, value);
            for (uint64_t i = 0; value != 0 && i < 512; i += 8) {
                std::memcpy(&backing_[sector * 512 + i], &value, 8);
            }
        }
    }

    // Opens, works, and cuts the power (or closes). Leaves content_ and a model that matches it.
    void run(bool cut) {
        SimPort blocking;
        open(blocking);
        if (testing::Test::HasFailure()) {
            return;
        }
        SimPort port(&random_);
        const uint64_t steps = 20 + random_.below(300);
        const size_t depth = 1 + random_.below(8);
        while (port.steps() < steps) {
            while (jobs_.size() < depth) {
                issue(port);
                reap();
            }
            port.step();
            reap();
        }
        if (cut) {
            content_ = file_->power_cut(random_, port.in_flight());
            port.die();
            jobs_.clear();
            store_.reset();
            return;
        }
        while (!jobs_.empty()) {
            ASSERT_TRUE(port.step());
            reap();
        }
        const auto closed = store_->close(blocking);
        ASSERT_TRUE(closed.ok()) << closed.error().text();
        model_.flush_acknowledged(model_.flush_begins());
        content_ = file_->now;
        store_.reset();
    }

    // `clean`: no leaks either.
    void verify(bool clean) {
        SimPort port;
        const bool lazy = configuration_.create.lazy_refcounts;
        if (lazy && !clean) {  // opening repairs
            open(port);
            ASSERT_FALSE(testing::Test::HasFailure());
            ASSERT_TRUE(store_->close(port).ok());
            content_ = file_->now;
            store_.reset();
        }
        auto store = open_with(port, {.writable = false, .for_check = true});
        ASSERT_NE(store, nullptr);
        const auto report = check_image(*store, port, Repair::Nothing);
        ASSERT_TRUE(report.ok()) << report.error().text();
        for (const std::string& message : report->messages) {
            if (report->corruptions > 0 || clean) {
                ADD_FAILURE() << message;
            }
        }
        ASSERT_EQ(report->corruptions, 0u);
        std::vector<uint64_t> sector(64);
        for (uint64_t i = 0; i < model_.count(); ++i) {
            const iovec vector{sector.data(), 512};
            ASSERT_EQ(run_inline(store->read(port, i * 512, std::span(&vector, 1), 512)), 0)
                << store->last_error();
            ASSERT_TRUE(std::all_of(sector.begin(), sector.end(),
                                    [&](uint64_t word) { return word == sector[0]; }))
                << "sector " << i << " is mixed";
            ASSERT_TRUE(model_.possible_after_cut(i, sector[0]))
                << "sector " << i << " holds " << std::hex << sector[0];
            model_.set(i, sector[0]);
        }
    }

    void mend_leaks() {
        SimPort port;
        auto store = open_with(port, {.writable = true, .for_check = true});
        ASSERT_TRUE(check_image(*store, port, Repair::Leaks).ok());
        ASSERT_TRUE(store->close(port).ok());
        content_ = file_->now;
    }

    const std::vector<uint8_t>& content() const { return content_; }
    const std::vector<uint8_t>& backing() const { return backing_; }

private:
    // Pull changes nothing a guest can see, so it may meet every other request.
    enum class Kind { Read, Write, Zero, Discard, Flush, Pull };
    struct Job {
        Kind op = Kind::Read;
        uint64_t first = 0;
        uint64_t count = 0;  // sectors
        uint64_t value = 0;
        uint64_t begun = 0;
        uint64_t pulled = 0;
        std::vector<uint64_t> data;
        iovec vectors[3];
        std::optional<Task<int>> task;
    };

    std::unique_ptr<Store> open_with(SimPort& port, StoreOptions options) {
        auto file = std::make_unique<SimFile>(content_);
        file_ = file.get();
        options.extend_bytes = 4096;
        options.l2_cache_bytes = 64 * 1024;
        std::unique_ptr<BlockSource> source;
        if (!backing_.empty()) {
            source = std::make_unique<RawSource>(std::make_unique<SimFile>(backing_));
        }
        auto store = Store::open(port, std::move(file), options, std::move(source));
        EXPECT_TRUE(store.ok()) << store.error().text();
        return store.ok() ? std::move(store).value() : nullptr;
    }
    void open(SimPort& port) { store_ = open_with(port, {}); }

    void issue(SimPort& port) {
        Job& job = jobs_.emplace_back();
        const uint64_t dice = random_.below(100);
        job.op = dice < 55   ? Kind::Write
                 : dice < 63 ? Kind::Zero
                 : dice < 71 ? Kind::Discard
                 : dice < 90 ? Kind::Read
                             : Kind::Flush;
        if (configuration_.backing_size > 0 && random_.below(6) == 0) {
            job.op = Kind::Pull;
            job.first = random_.below(model_.count());
        } else if (job.op != Kind::Flush && !choose_range(job)) {
            job.op = Kind::Flush;
        }
        job.value = job.op == Kind::Write ? ++stamp_ : 0;
        if (job.op == Kind::Write || job.op == Kind::Zero || job.op == Kind::Discard) {
            for (uint64_t i = 0; i < job.count; ++i) {
                model_.begin(job.first + i, job.value, job.op == Kind::Discard);
            }
        }
        job.data.assign(job.count * 64, job.value);
        // In three pieces, as guests have them.
        const uint64_t bytes = job.count * 512;
        const uint64_t cut = bytes / 1024 * 512;
        auto* base = reinterpret_cast<std::byte*>(job.data.data());
        job.vectors[0] = {base, cut};
        job.vectors[1] = {base + cut, (bytes - cut) / 2};
        job.vectors[2] = {base + cut + (bytes - cut) / 2, bytes - cut - (bytes - cut) / 2};
        start(job, port);
    }

    void start(Job& job, SimPort& port) {
        const uint64_t offset = job.first * 512;
        const uint64_t size = job.count * 512;
        const std::span<const iovec> vectors(job.vectors, 3);
        switch (job.op) {
            case Kind::Read: job.task.emplace(store_->read(port, offset, vectors, size)); break;
            case Kind::Write: job.task.emplace(store_->write(port, offset, vectors, size)); break;
            case Kind::Zero:
                job.task.emplace(store_->zero(port, offset, size, random_.below(2) == 0));
                break;
            case Kind::Discard: job.task.emplace(store_->discard(port, offset, size)); break;
            case Kind::Pull:
                job.task.emplace(store_->pull(port, offset, store_->size() - offset, job.pulled));
                break;
            case Kind::Flush:
                job.begun = model_.flush_begins();
                job.task.emplace(store_->flush(port));
                break;
        }
        job.task->start();
    }

    // No two requests in flight touch one sector: a guest gets no promise about that.
    bool choose_range(Job& job) {
        const uint64_t cluster = (1ull << configuration_.create.cluster_bits) / 512;
        for (int attempt = 0; attempt < 8; ++attempt) {
            job.count = 1 + random_.below(std::min<uint64_t>(cluster * 3, model_.count()));
            if (random_.below(3) == 0) {
                job.count = std::max<uint64_t>(job.count / cluster * cluster, 1);
            }
            job.first = random_.below(model_.count() - job.count + 1);
            if (random_.below(3) == 0) {
                job.first = job.first / cluster * cluster;
            }
            const bool meets = std::any_of(jobs_.begin(), std::prev(jobs_.end()), [&](auto& other) {
                return other.op != Kind::Flush && other.op != Kind::Pull &&
                       job.first < other.first + other.count && other.first < job.first + job.count;
            });
            if (!meets) {
                return true;
            }
        }
        job.count = 0;
        return false;
    }

    void reap() {
        for (auto job = jobs_.begin(); job != jobs_.end();) {
            if (!job->task->done()) {
                ++job;
                continue;
            }
            ASSERT_EQ(job->task->take(), 0) << store_->last_error();
            finish(*job);
            job = jobs_.erase(job);
        }
    }

    void finish(const Job& job) {
        if (job.op == Kind::Flush) {
            model_.flush_acknowledged(job.begun);
            return;
        }
        for (uint64_t i = 0; i < job.count; ++i) {
            if (job.op != Kind::Read) {
                model_.end(job.first + i, job.value);
                continue;
            }
            ASSERT_TRUE(model_.possible_now(job.first + i, job.data[i * 64]))
                << "sector " << job.first + i << " reads " << std::hex << job.data[i * 64];
        }
    }

    const Configuration& configuration_;
    SeededRandom random_;
    SectorModel model_;
    std::vector<uint8_t> content_;
    std::vector<uint8_t> backing_;
    std::unique_ptr<Store> store_;
    SimFile* file_ = nullptr;
    std::list<Job> jobs_;
    uint64_t stamp_ = 0x5000'0000;
};

const Configuration kConfigurations[] = {
    {"plain", {.size = 300 * 512, .cluster_bits = 10}},
    {"tiny_clusters", {.size = 400 * 512, .cluster_bits = 9}},
    {"wide_refcounts", {.size = 400 * 512, .cluster_bits = 9, .refcount_order = 6}},
    {"one_bit_refcounts", {.size = 300 * 512, .cluster_bits = 10, .refcount_order = 0}},
    {"version2", {.size = 300 * 512, .version = 2, .cluster_bits = 11}},
    {"lazy", {.size = 300 * 512, .cluster_bits = 10, .lazy_refcounts = true}},
    {"extended", {.size = 512 * 512, .cluster_bits = 14, .extended_l2 = true}},
    {"backing",
     {.size = 301 * 512, .cluster_bits = 11, .backing_file = "b.raw", .backing_format = "raw"},
     211 * 512},
    {"version2_backing",
     {.size = 300 * 512,
      .version = 2,
      .cluster_bits = 10,
      .backing_file = "b.raw",
      .backing_format = "raw"},
     300 * 512},
    {"extended_backing",
     {.size = 500 * 512,
      .cluster_bits = 14,
      .extended_l2 = true,
      .backing_file = "b.raw",
      .backing_format = "raw"},
     333 * 512},
    {"lazy_backing",
     {.size = 300 * 512,
      .cluster_bits = 11,
      .lazy_refcounts = true,
      .backing_file = "b.raw",
      .backing_format = "raw"},
     300 * 512},
};

class Qcow2PowerCut : public testing::TestWithParam<Configuration> {
protected:
    static uint64_t runs() {
        const char* text = std::getenv("KUMOI_POWER_CUTS");
        return text != nullptr ? std::strtoull(text, nullptr, 10) : 12;
    }
};

TEST_P(Qcow2PowerCut, NoAcknowledgedFlushIsLost) {
    for (uint64_t seed = 1; seed <= runs() && !HasFailure(); ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Workload workload(GetParam(), seed);
        for (int round = 0; round < 4 && !HasFailure(); ++round) {
            workload.run(true);
            if (!HasFailure()) {
                workload.verify(false);
            }
        }
    }
}

TEST_P(Qcow2PowerCut, AClosedImageHasNoLeaks) {
    for (uint64_t seed = 1; seed <= runs() / 4 + 1 && !HasFailure(); ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Workload workload(GetParam(), seed + 100'000);
        for (int round = 0; round < 3 && !HasFailure(); ++round) {
            workload.run(false);
            if (!HasFailure()) {
                workload.verify(true);
            }
        }
    }
}

// The oracle: QEMU's own check agrees, on a sample.
TEST_P(Qcow2PowerCut, QemuFindsNoErrors) {
    if (::access("/usr/bin/qemu-img", X_OK) != 0) {
        GTEST_SKIP() << "no qemu-img here";
    }
    const auto directory = TemporaryDirectory::create("qcow2_power_cut").value();
    const std::string path = directory.path() + "/image.qcow2";
    for (uint64_t seed = 1; seed <= 3 && !HasFailure(); ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Workload workload(GetParam(), seed + 200'000);
        workload.run(true);
        workload.verify(false);
        const auto& content = workload.content();
        std::ofstream(path, std::ios::binary | std::ios::trunc)
            .write(reinterpret_cast<const char*>(content.data()),
                   static_cast<std::streamsize>(content.size()));
        std::ofstream(directory.path() + "/b.raw", std::ios::binary | std::ios::trunc)
            .write(reinterpret_cast<const char*>(workload.backing().data()),
                   static_cast<std::streamsize>(workload.backing().size()));
        const std::string command =
            "qemu-img check -f qcow2 " + path + " >" + directory.path() + "/out 2>&1";
        const int status = std::system(command.c_str());
        const int code = WEXITSTATUS(status);
        EXPECT_TRUE(code == 0 || code == 3)  // 3: leaks only
            << "qemu-img check: " << code << "\n"
            << read_file(directory.path() + "/out").value();
    }
}

INSTANTIATE_TEST_SUITE_P(Images, Qcow2PowerCut, testing::ValuesIn(kConfigurations),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace kumoi::hypervisor::qcow2
