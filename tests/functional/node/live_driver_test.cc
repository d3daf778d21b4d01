// Live migration by two drivers, each with its host's folder, their relays and real guests that
// check their own memory (tests/guests/micro/chain.c).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <thread>

#include "base/fd.h"
#include "base/file.h"
#include "compute/driver/kumoi_vmm_driver.h"
#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"
#include "tests/support/programs.h"

namespace kumoi::compute {
namespace {

constexpr auto kPatience = std::chrono::seconds(90);
const std::string kUuid = "11111111-2222-4333-8444-555555555555";

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

Instance server() {
    Instance instance;
    instance.uuid = kUuid;
    instance.hostname = "web";
    instance.image_id = "disk";
    instance.image.id = "disk";
    instance.image.properties = {{"kernel_id", "kernel"}, {"os_command_line", "mib=4"}};
    instance.flavor.vcpus = 1;
    instance.flavor.memory_mb = 32;
    instance.flavor.root_gb = 1;
    return instance;
}

struct Watcher final : LiveMigrationObserver {
    void progress(const LiveMigrationProgress& one) override {
        last = one;
        if (on_progress) {
            on_progress();
        }
    }
    void switched_over() override { ++switches; }
    LiveMigrationProgress last;
    int switches = 0;
    std::function<void()> on_progress;
};

class Host {
public:
    Host(const std::string& name, std::string instances_path, ImageApi& images, bool leases = false)
        : name_(name),
          instances_path_(std::move(instances_path)),
          leases_(leases),
          images_(images) {
        start();
    }
    ~Host() {
        if (driver_) {
            EXPECT_TRUE(driver_->destroy(server()).ok());
        }
    }
    // As a daemon that is started anew.
    void start() {
        driver_.reset();
        KumoiDriverOptions options;
        options.instances_path = instances_path_;
        options.process.vmm_path = environment("KUMOI_VMM");
        options.process.host = name_;
        options.transfer.folder = instances_path_ + "/_moves-" + name_;
        options.live.relay.program = built_program("kumoi-relay");
        options.live.follow_step_ms = 50;
        options.leases = DiskLeases(leases_, name_);
        options.disk.img_path = kumoi_img();
        ImageCacheOptions cache;
        cache.directory = instances_path_ + "/_base-" + name_;
        cache.img_path = options.disk.img_path;
        cache_ = std::make_unique<ImageCache>(cache, images_, clock_);
        driver_ = std::make_unique<KumoiVmmDriver>(options, images_, *cache_, clock_, random_);
        const auto ready = driver_->init_host(name_);
        ASSERT_TRUE(ready.ok()) << ready.error().text();
    }
    KumoiVmmDriver& driver() { return *driver_; }
    InstanceFolder folder() const { return {instances_path_, kUuid}; }
    std::string console() const {
        const auto text = read_file(folder().console_log());
        return text.ok() ? *text : "";
    }
    pid_t vmm_pid() const {
        const auto text = read_file(folder().process());
        return text.ok() ? static_cast<pid_t>(Json::parse(*text)->integer_or("pid")) : 0;
    }
    GuestOwner owner() {
        const auto owner = driver_->live_migration_outcome(server());
        EXPECT_TRUE(owner.ok()) << owner.error().text();
        return owner.ok() ? *owner : GuestOwner::Undecided;
    }

private:
    const std::string name_;
    const std::string instances_path_;
    const bool leases_;
    ImageApi& images_;
    SystemClock clock_;
    SystemRandom random_;
    std::unique_ptr<ImageCache> cache_;
    std::unique_ptr<KumoiVmmDriver> driver_;
};

class LiveDriverTest : public testing::Test {
protected:
    void SetUp() override {
        if (!open_file("/dev/kvm", O_RDWR).ok()) {
            GTEST_SKIP() << "live migration tests skipped: /dev/kvm cannot be opened";
        }
        auto kernel = read_file(environment("KUMOI_MICRO_GUESTS") + "/chain.elf");
        ASSERT_TRUE(kernel.ok()) << kernel.error().text();
        add_image("kernel", "aki", *kernel);
        add_image("disk", "raw", std::string(1 << 20, 'd'));
    }
    void add_image(const std::string& id, const std::string& format, const std::string& bytes) {
        ImageMeta meta;
        meta.id = id;
        meta.disk_format = format;
        meta.container_format = format == "raw" ? "bare" : format;
        images_.add(meta, bytes);
    }
    void set_up(bool shared, bool leases = false) {
        one_ = std::make_unique<Host>("one", directory_.path() + "/1", images_, leases);
        two_ = std::make_unique<Host>("two", directory_.path() + (shared ? "/1" : "/2"), images_,
                                      leases);
        const auto spawned = one_->driver().spawn({context_, server(), {}});
        ASSERT_TRUE(spawned.ok()) << spawned.error().text();
        expect_rounds(*one_, 2);
    }
    // That many more, and none that found anything wrong.
    static void expect_rounds(Host& host, int more) {
        const auto count = [&] {
            const std::string text = host.console();
            EXPECT_EQ(text.find("FAIL"), std::string::npos) << text;
            int rounds = 0;
            for (size_t at = 0; (at = text.find("chain round=", at)) != std::string::npos; ++at) {
                ++rounds;
            }
            return rounds;
        };
        const int wanted = count() + more;
        const auto deadline = std::chrono::steady_clock::now() + kPatience;
        while (count() < wanted && std::chrono::steady_clock::now() < deadline) {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        EXPECT_GE(count(), wanted) << host.console();
    }
    // The manager's part up to the move itself.
    Result<LiveMigrationDeparture> prepare(Host& from, Host& to, const std::string& migration) {
        LiveMigrationQuestion question;
        question.facts = TRY(to.driver().live_migration_facts(server()));
        auto plan = from.driver().check_live_migration(server(), question);
        to.driver().discard_live_migration_facts(question.facts);
        LiveMigrationArrival arrival;
        arrival.context = context_;
        arrival.instance = server();
        arrival.migration_uuid = migration;
        arrival.plan = TRY(std::move(plan));
        if (arrival.plan.block_migration) {
            arrival.disks = TRY(from.driver().live_migration_disks(server()));
        }
        LiveMigrationDeparture departure;
        departure.plan = arrival.plan;
        departure.migration_uuid = migration;
        departure.arrival = TRY(to.driver().pre_live_migration(arrival));
        departure.options.parallel_connections = 2;
        return departure;
    }
    void move(Host& from, Host& to, const std::string& migration) {
        const auto departure = prepare(from, to, migration);
        ASSERT_TRUE(departure.ok()) << departure.error().text();
        Watcher watcher;
        const auto outcome = from.driver().live_migration(server(), *departure, watcher);
        ASSERT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Completed)
            << (outcome.error ? outcome.error->text() : "");
        EXPECT_EQ(watcher.switches, 1);
        EXPECT_EQ(from.owner(), GuestOwner::Gone);
        EXPECT_FALSE(from.driver().power_on(server()).ok());
        EXPECT_EQ(to.owner(), GuestOwner::Here);
        ASSERT_TRUE(from.driver().leave(server(), departure->plan.shared_instance_path).ok());
        const auto finished = to.driver().finish_live_migration(server());
        ASSERT_TRUE(finished.ok()) << finished.error().text();
        EXPECT_EQ(to.driver().get_info(server())->power_state, power_states::kRunning);
        expect_rounds(to, 2);
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("live").value();
    RequestContext context_;
    CallLog log_;
    FakeImages images_{log_};
    std::unique_ptr<Host> one_;
    std::unique_ptr<Host> two_;
};

TEST_F(LiveDriverTest, ThereAndBackWithItsDisks) {
    set_up(false);
    move(*one_, *two_, "aaaaaaaa-2222-4333-8444-555555555551");
    EXPECT_FALSE(one_->folder().exists());
    EXPECT_EQ(root_disk(two_->folder())->format, "qcow2");
    move(*two_, *one_, "aaaaaaaa-2222-4333-8444-555555555552");
    const auto rebooted = one_->driver().reboot(server(), RebootType::Hard);
    EXPECT_TRUE(rebooted.ok()) << rebooted.error().text();
}

TEST_F(LiveDriverTest, BetweenHostsThatShareTheFolder) {
    set_up(true);
    move(*one_, *two_, "aaaaaaaa-2222-4333-8444-555555555553");
    EXPECT_FALSE(path_exists(two_->folder().path() + "_arriving_two"));
    move(*two_, *one_, "aaaaaaaa-2222-4333-8444-555555555554");
    one_.reset();  // first: its guest would outlive the folder they share
}

TEST_F(LiveDriverTest, LeasesOfSharedDisksAreHandedOverAndTheConsoleStays) {
    set_up(true, true);
    const auto expect_lease = [&](uint64_t epoch, const std::string& owner) {
        const auto lease = read_disk_lease(disk_lease_path(one_->folder(), "root"));
        ASSERT_TRUE(lease.ok() && *lease);
        EXPECT_EQ((*lease)->epoch, epoch);
        EXPECT_EQ((*lease)->owner, owner);
        EXPECT_TRUE((*lease)->held);
    };
    expect_lease(1, "one");
    const std::string begun = one_->console().substr(0, 200);
    move(*one_, *two_, "aaaaaaaa-2222-4333-8444-555555555561");
    expect_lease(2, "two");
    EXPECT_TRUE(two_->console().starts_with(begun));
    ::kill(two_->vmm_pid(), SIGKILL);  // and the cloud evacuates its server to the other host
    while (two_->driver().get_info(server())->power_state == power_states::kRunning) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    const auto started = one_->driver().power_on(server());
    ASSERT_TRUE(started.ok()) << started.error().text();
    expect_lease(3, "one");
    move(*one_, *two_, "aaaaaaaa-2222-4333-8444-555555555562");
    expect_lease(4, "two");
    EXPECT_EQ(read_epoch(two_->folder()), 4u);  // nobody's refused start has changed it
}

TEST_F(LiveDriverTest, AnAbortedOneGoesOnWhereItWas) {
    set_up(false);
    auto departure = prepare(*one_, *two_, "aaaaaaaa-2222-4333-8444-555555555555");
    ASSERT_TRUE(departure.ok()) << departure.error().text();
    departure->options.bandwidth_bytes_s = 1 << 20;
    Watcher watcher;
    watcher.on_progress = [&] {
        if (watcher.last.phase == "copying") {
            (void)one_->driver().abort_live_migration(server());
        }
    };
    const auto outcome = one_->driver().live_migration(server(), *departure, watcher);
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_TRUE(outcome.cancelled) << outcome.error->text();
    ASSERT_TRUE(two_->driver().rollback_live_migration(server(), true).ok());
    EXPECT_FALSE(two_->folder().exists());
    EXPECT_EQ(one_->owner(), GuestOwner::Here);
    expect_rounds(*one_, 2);
    move(*one_, *two_, "aaaaaaaa-2222-4333-8444-555555555556");
}

TEST_F(LiveDriverTest, AGuestDiesWithItsSourceAndIsNotStartedElsewhere) {
    set_up(false);
    auto departure = prepare(*one_, *two_, "aaaaaaaa-2222-4333-8444-555555555557");
    ASSERT_TRUE(departure.ok()) << departure.error().text();
    departure->options.bandwidth_bytes_s = 1 << 20;
    Watcher watcher;
    watcher.on_progress = [&] {
        if (watcher.last.phase == "copying") {
            ::kill(one_->vmm_pid(), SIGKILL);
        }
    };
    const auto outcome = one_->driver().live_migration(server(), *departure, watcher);
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_EQ(one_->owner(), GuestOwner::Here);
    EXPECT_EQ(two_->owner(), GuestOwner::Incoming);
    EXPECT_FALSE(two_->driver().power_on(server()).ok());
    ASSERT_TRUE(two_->driver().rollback_live_migration(server(), true).ok());
    const auto started = one_->driver().power_on(server());
    EXPECT_TRUE(started.ok()) << started.error().text();
}

}  // namespace
}  // namespace kumoi::compute
