// The driver with real kumoi-vmm processes and real guests (tests/guests/micro/hello.c). Skipped
// where /dev/kvm cannot be opened.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <span>
#include <thread>

#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "compute/driver/kumoi_vmm_driver.h"
#include "compute/network/netlink.h"
#include "compute/nic_slots.h"
#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"
#include "tests/support/programs.h"

namespace kumoi::compute {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);
const std::string kUuid = "11111111-2222-4333-8444-555555555555";

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

// Collects lifecycle events and lets a test wait for one.
class Events {
public:
    std::function<void(const LifecycleEvent&)> listener() {
        return [this](const LifecycleEvent& event) {
            const std::lock_guard lock(mutex_);
            events_.push_back(event);
            changed_.notify_all();
        };
    }
    bool wait_for(LifecycleEvent::Kind kind) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, kPatience, [&] { return has(kind); });
    }
    bool seen(LifecycleEvent::Kind kind) {
        const std::lock_guard lock(mutex_);
        return has(kind);
    }

private:
    bool has(LifecycleEvent::Kind kind) const {
        for (const LifecycleEvent& event : events_) {
            if (event.kind == kind && event.instance_uuid == kUuid) {
                return true;
            }
        }
        return false;
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<LifecycleEvent> events_;
};

class VmmDriverTest : public testing::Test {
protected:
    void SetUp() override {
        if (!open_file("/dev/kvm", O_RDWR).ok()) {
            GTEST_SKIP() << "node functional tests skipped: /dev/kvm cannot be opened";
        }
        ASSERT_NE(environment("KUMOI_VMM"), "")
            << "set KUMOI_VMM and KUMOI_MICRO_GUESTS, or use ctest";
        auto kernel = read_file(environment("KUMOI_MICRO_GUESTS") + "/hello.elf");
        ASSERT_TRUE(kernel.ok()) << kernel.error().text();
        add_image("kernel", "aki", *kernel, {});
        start_driver();
    }
    void TearDown() override {
        if (driver_) {
            EXPECT_TRUE(driver_->destroy(server("")).ok());
        }
    }
    void add_image(const std::string& id, const std::string& format, const std::string& bytes,
                   const Properties& properties) {
        ImageMeta meta;
        meta.id = id;
        meta.disk_format = format;
        meta.container_format = format == "raw" ? "bare" : format;
        meta.properties = properties;
        images_.add(meta, bytes);
    }
    void start_driver() {
        driver_.reset();
        KumoiDriverOptions options;
        options.instances_path = directory_.path() + "/i";
        options.process.vmm_path = environment("KUMOI_VMM");
        options.process.control_timeout_ms = 2000;
        options.detach.attempts = 2;
        options.detach.timeout_ms = 200;
        options.cgroup_parent = cgroup_parent_;
        options.guest_overhead_mib = 256;
        options.cpus = cpus_;
        options.disk.img_path = kumoi_img();
        ImageCacheOptions cache;
        cache.directory = directory_.path() + "/_base";
        cache.img_path = options.disk.img_path;
        cache_ = std::make_unique<ImageCache>(cache, images_, clock_);
        driver_ = std::make_unique<KumoiVmmDriver>(options, images_, *cache_, clock_, random_);
        driver_->set_event_listener(events_.listener());
        const auto ready = driver_->init_host("cn-1");
        ASSERT_TRUE(ready.ok()) << ready.error().text();
    }
    static Instance server(const std::string& command_line) {
        Instance instance;
        instance.uuid = kUuid;
        instance.hostname = "web";
        instance.image_id = "disk";
        instance.image.id = "disk";
        instance.image.properties = {{"kernel_id", "kernel"}, {"os_command_line", command_line}};
        instance.flavor.vcpus = 1;
        instance.flavor.memory_mb = 32;
        instance.flavor.root_gb = 1;
        return instance;
    }
    void spawn(const Instance& instance) {
        add_image("disk", "raw", std::string(1 << 20, 'd'), {});
        const auto spawned = driver_->spawn({context_, instance, {}});
        ASSERT_TRUE(spawned.ok()) << spawned.error().text();
    }
    int power(const Instance& instance) {
        const auto info = driver_->get_info(instance);
        return info.ok() ? info->power_state : -1;
    }
    bool console_shows(const Instance& instance, const std::string& text) {
        const auto deadline = std::chrono::steady_clock::now() + kPatience;
        while (std::chrono::steady_clock::now() < deadline) {
            const auto output = driver_->get_console_output(instance, -1);
            if (output.ok() && output->find(text) != std::string::npos) {
                return true;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        return false;
    }
    InstanceFolder folder() const { return {directory_.path() + "/i", kUuid}; }
    pid_t vmm_pid() const {
        const auto text = read_file(folder().process());
        return text.ok() ? static_cast<pid_t>(Json::parse(*text)->integer_or("pid")) : 0;
    }
    // Its parent, outside of the sandbox.
    pid_t launcher_pid() const {
        const auto text = read_file(folder().process());
        return text.ok() ? static_cast<pid_t>(Json::parse(*text)->integer_or("launcher")) : 0;
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("kd").value();
    SystemClock clock_;
    SystemRandom random_;
    CallLog log_;
    FakeImages images_{log_};
    Events events_;
    RequestContext context_{"req-1", "user", "project", false};
    std::string cgroup_parent_;
    CpuPools cpus_;
    std::unique_ptr<ImageCache> cache_;
    std::unique_ptr<KumoiVmmDriver> driver_;
};

TEST_F(VmmDriverTest, AMachineThatIsNotOursIsRefusedByTheNameOfTheProperty) {
    Instance instance = server("");
    instance.image.properties.erase("kernel_id");  // so it would boot by firmware
    instance.image.properties["hw_machine_type"] = "pc-i440fx-7.2";
    const auto refused = driver_->spawn({context_, instance, {}});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("hw_machine_type"), std::string::npos);
    EXPECT_FALSE(folder().exists());
}

TEST_F(VmmDriverTest, AKernelThatIsNoneFailsTheSpawnAndLeavesNothing) {
    add_image("disk", "raw", std::string(4096, 'd'), {});
    add_image("kernel", "aki", "this is no kernel", {});
    const auto refused = driver_->spawn({context_, server(""), {}});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("kumoi-vmm ended while it started"), std::string::npos)
        << refused.error().text();
    EXPECT_FALSE(folder().exists());
    EXPECT_TRUE(driver_->list_instance_uuids()->empty());
}

TEST_F(VmmDriverTest, AGuestLivesThroughEveryVerb) {
    const Instance instance = server("beat");
    spawn(instance);
    EXPECT_TRUE(console_shows(instance, "hello beat 2"));
    EXPECT_EQ(power(instance), power_states::kRunning);
    EXPECT_EQ(*driver_->list_instance_uuids(), std::vector<std::string>{kUuid});
    EXPECT_EQ(*virtual_size(*root_disk(folder())), uint64_t{1} << 30);

    ASSERT_TRUE(driver_->pause(instance).ok());
    EXPECT_EQ(power(instance), power_states::kPaused);
    ASSERT_TRUE(driver_->unpause(instance).ok());
    EXPECT_EQ(power(instance), power_states::kRunning);

    const auto diagnostics = driver_->get_instance_diagnostics(instance);
    ASSERT_TRUE(diagnostics.ok()) << diagnostics.error().text();
    EXPECT_EQ(diagnostics->string_or("state"), "running");
    EXPECT_EQ(diagnostics->integer_or("num_cpus"), 1);

    const pid_t before = vmm_pid();
    ASSERT_TRUE(driver_->reboot(instance, RebootType::Hard).ok());
    EXPECT_NE(vmm_pid(), before);
    EXPECT_FALSE(process_alive(before));
    EXPECT_EQ(power(instance), power_states::kRunning);

    // This guest has no ear for the power button: the driver sees that and does not wait a minute.
    ASSERT_TRUE(driver_->power_off(instance, 60).ok());
    EXPECT_EQ(power(instance), power_states::kShutdown);
    ASSERT_TRUE(driver_->power_off(instance, 60).ok());
    ASSERT_TRUE(driver_->power_on(instance).ok());
    EXPECT_EQ(power(instance), power_states::kRunning);
    ASSERT_TRUE(driver_->power_on(instance).ok());

    const pid_t last = vmm_pid();
    ASSERT_TRUE(driver_->destroy(instance).ok());
    EXPECT_FALSE(process_alive(last));
    EXPECT_FALSE(folder().exists());
    EXPECT_FALSE(events_.seen(LifecycleEvent::Kind::Crashed));
    ASSERT_TRUE(driver_->destroy(instance).ok());
}

// Its disk is whole without any backing file, and the guest was never stopped for it.
TEST_F(VmmDriverTest, ARunningGuestsDiskBecomesAnImage) {
    const Instance instance = server("beat");
    spawn(instance);
    EXPECT_TRUE(console_shows(instance, "hello beat 1"));
    for (const bool running : {true, false}) {
        if (!running) {
            ASSERT_TRUE(driver_->power_off(instance, 0).ok());
        }
        const auto snapshot = driver_->snapshot(instance);
        ASSERT_TRUE(snapshot.ok()) << snapshot.error().text();
        EXPECT_EQ((*snapshot)->disk_format(), "qcow2");
        EXPECT_EQ((*snapshot)->virtual_size(), uint64_t{1} << 30);
        std::string image(16 << 20, '\0');
        const auto size =
            (*snapshot)->read(std::as_writable_bytes(std::span(image)), 0);  // small: sparse
        ASSERT_TRUE(size.ok());
        const std::string file = directory_.path() + "/image";
        ASSERT_TRUE(write_file_atomic(file, std::string_view(image).substr(0, *size)).ok());
        const auto info = run_checked({kumoi_img(), "info", "--json", file});
        ASSERT_TRUE(info.ok()) << info.error().text();
        EXPECT_FALSE(Json::parse(*info)->contains("backing_file"));
        ASSERT_TRUE(
            run_checked({kumoi_img(), "convert", "-O", "raw", file, directory_.path() + "/flat"})
                .ok());
        const UniqueFd flat = open_file(directory_.path() + "/flat", O_RDONLY).value();
        std::string begin(1 << 20, '\0');
        ASSERT_TRUE(pread_some(flat.get(), std::as_writable_bytes(std::span(begin)), 0).ok());
        EXPECT_EQ(begin, std::string(1 << 20, 'd'));
        ASSERT_TRUE(remove_file(directory_.path() + "/flat").ok());
        EXPECT_EQ(power(instance), running ? power_states::kRunning : power_states::kShutdown);
    }
    EXPECT_FALSE(events_.seen(LifecycleEvent::Kind::Paused));
    EXPECT_TRUE(list_directory(directory_.path() + "/i/_snapshots")->empty());
}

// A daemon that is killed while a disk is copied leaves the job and its file: both go when it is
// back and tries again.
TEST_F(VmmDriverTest, ABackupThatADeadDaemonBeganIsReplaced) {
    const Instance instance = server("beat");
    spawn(instance);
    GuestProcessOptions options;
    options.vmm_path = environment("KUMOI_VMM");
    const std::string target = directory_.path() + "/i/_snapshots/" + kUuid;
    {
        const GuestProcess process(options, folder(), clock_);
        ASSERT_TRUE(make_directories(directory_.path() + "/i/_snapshots").ok());
        const UniqueFd orphan = open_file(target, O_RDWR | O_CREAT, 0600).value();
        const std::vector<hypervisor::NamedDescriptor> passed = {{target, orphan.get()}};
        ASSERT_TRUE(
            process
                .call("disk_backup", Json::object({{"disk", "root"}, {"target", target}}), passed)
                .ok());
        driver_.reset();
    }
    start_driver();
    EXPECT_FALSE(path_exists(target));
    const auto snapshot = driver_->snapshot(instance);
    ASSERT_TRUE(snapshot.ok()) << snapshot.error().text();
    EXPECT_EQ(power(instance), power_states::kRunning);
}

TEST_F(VmmDriverTest, AGuestIsSuspendedToItsFolderAndRunsOn) {
    const Instance instance = server("beat");
    spawn(instance);
    EXPECT_TRUE(console_shows(instance, "hello beat 2"));
    const pid_t before = vmm_pid();
    const auto suspended = driver_->suspend(instance);
    if (!suspended.ok() && suspended.error().fault == "SuspendNotSupported") {
        EXPECT_EQ(power(instance), power_states::kRunning);  // a refusal changes nothing
        GTEST_SKIP() << "this kumoi-vmm cannot save: " << suspended.error().text();
    }
    ASSERT_TRUE(suspended.ok()) << suspended.error().text();
    EXPECT_FALSE(process_alive(before));
    EXPECT_EQ(power(instance), power_states::kShutdown);
    EXPECT_TRUE(path_exists(folder().saved_state()));
    ASSERT_TRUE(driver_->suspend(instance).ok());  // again, as after a crash of the daemon
    start_driver();
    const auto resumed = driver_->resume(instance);
    ASSERT_TRUE(resumed.ok()) << resumed.error().text();
    EXPECT_EQ(power(instance), power_states::kRunning);
    EXPECT_FALSE(path_exists(folder().saved_state()));
    const auto output = driver_->get_console_output(instance, -1);
    EXPECT_TRUE(console_shows(instance, "hello beat 4")) << *output;
    EXPECT_FALSE(events_.seen(LifecycleEvent::Kind::Crashed));
    ASSERT_TRUE(driver_->resume(instance).ok());
}

TEST_F(VmmDriverTest, AGuestThatPowersOffIsReported) {
    const Instance instance = server("");
    spawn(instance);
    EXPECT_TRUE(events_.wait_for(LifecycleEvent::Kind::Stopped));
    EXPECT_EQ(power(instance), power_states::kShutdown);
    EXPECT_FALSE(events_.seen(LifecycleEvent::Kind::Crashed));
}

TEST_F(VmmDriverTest, AGuestOutlivesTheDaemonAndIsFoundAgain) {
    const Instance instance = server("beat");
    spawn(instance);
    const pid_t pid = vmm_pid();
    driver_.reset();
    ASSERT_TRUE(process_alive(pid));
    start_driver();
    EXPECT_EQ(power(instance), power_states::kRunning);
    EXPECT_EQ(vmm_pid(), pid);
    // Its events are heard again.
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    EXPECT_TRUE(events_.wait_for(LifecycleEvent::Kind::Crashed));
    EXPECT_EQ(power(instance), power_states::kShutdown);
}

TEST_F(VmmDriverTest, AGuestLivesInAControlGroupOfItsOwn) {
    const auto host = CgroupHost::detect();
    const std::string parent = fmt::format("kumoi-node-test-{}", ::getpid());
    if (!host.ok() || !host->has("cpu") || !Cgroup::create(*host, parent).ok()) {
        GTEST_SKIP() << "no control group with the controller cpu can be made here";
    }
    cgroup_parent_ = parent;
    start_driver();
    Instance instance = server("beat");
    instance.flavor.extra_specs = {{"quota:cpu_shares", "300"}, {"quota:cpu_quota", "90000"}};
    spawn(instance);
    const auto mine = Cgroup::create(*host, parent + "/" + kUuid);
    ASSERT_TRUE(mine.ok()) << mine.error().text();
    EXPECT_EQ(mine->processes().value(), (std::vector<pid_t>{launcher_pid(), vmm_pid()}));
    start_driver();  // another daemon finds it again
    EXPECT_TRUE(path_exists(folder().cgroups()));
    ASSERT_TRUE(driver_->power_off(instance, 0).ok());
    for (const std::string& path : mine->folders()) {
        EXPECT_FALSE(path_exists(path)) << path;
    }
    ASSERT_TRUE(driver_->power_on(instance).ok());
    ASSERT_EQ(::kill(vmm_pid(), SIGKILL), 0);
    EXPECT_TRUE(events_.wait_for(LifecycleEvent::Kind::Crashed));
    EXPECT_EQ(power(instance), power_states::kShutdown);  // whoever asks cleans up behind it
    EXPECT_FALSE(path_exists(folder().cgroups()));
    EXPECT_TRUE(Cgroup::create(*host, parent).value().remove().ok());
}

// The processors that a thread of this name may use, in the kernel's words.
std::string allowed_cpus(pid_t pid, const std::string& thread) {
    const std::string tasks = fmt::format("/proc/{}/task", pid);
    for (const std::string& task : list_directory(tasks).value()) {
        const auto name = read_file(tasks + "/" + task + "/comm");
        const auto status = read_file(tasks + "/" + task + "/status");
        const std::string key = "Cpus_allowed_list:\t";
        if (name.ok() && *name == thread + "\n" && status.ok()) {
            const size_t at = status->find(key);
            return at == std::string::npos
                       ? ""
                       : status->substr(at + key.size(), status->find('\n', at) - at - key.size());
        }
    }
    return "no such thread";
}

TEST_F(VmmDriverTest, AGuestHasProcessorsOfItsOwn) {
    if (std::thread::hardware_concurrency() < 2) {
        GTEST_SKIP() << "this host has one processor";
    }
    cpus_.dedicated = {1};
    cpus_.shared = {0};
    start_driver();
    Instance instance = server("beat");
    instance.flavor.extra_specs = {{"hw:cpu_policy", "dedicated"}};
    spawn(instance);
    EXPECT_EQ(allowed_cpus(vmm_pid(), "vcpu0"), "1");
    Instance other = instance;
    other.uuid = "11111111-2222-3333-4444-555555555555";
    const auto refused = driver_->spawn({context_, other, {}});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "ComputeResourcesUnavailable") << refused.error().text();
    ASSERT_TRUE(driver_->power_off(instance, 0).ok());
    ASSERT_TRUE(driver_->power_on(instance).ok());  // still its own
    EXPECT_EQ(allowed_cpus(vmm_pid(), "vcpu0"), "1");
    instance.flavor.extra_specs.clear();
    ASSERT_TRUE(driver_->reboot(instance, RebootType::Hard).ok());
    EXPECT_EQ(allowed_cpus(vmm_pid(), "vcpu0"), "0");
}

int64_t huge_pages_left() {  // of 2 MiB, neither used nor promised
    const std::string pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
    const auto count = [&pool](const char* name) {
        const auto text = read_file(pool + name);
        return text.ok() ? std::atoll(text->c_str()) : 0;
    };
    return count("free_hugepages") - count("resv_hugepages");
}

TEST_F(VmmDriverTest, AGuestLivesInHugePages) {
    const int64_t before = huge_pages_left();
    if (before < 16) {
        GTEST_SKIP() << "this host has " << before << " free pages of 2 MiB; 16 are needed: "
                     << "echo 16 > /proc/sys/vm/nr_hugepages";
    }
    Instance instance = server("beat");
    instance.flavor.extra_specs = {{"hw:mem_page_size", "2MB"}, {"hw:numa_nodes", "1"}};
    spawn(instance);
    EXPECT_EQ(huge_pages_left(), before - 16);
    EXPECT_TRUE(console_shows(instance, "micro"));
    instance.flavor.memory_mb = before * 2 + 2;  // more than the pool has
    ASSERT_TRUE(driver_->power_off(instance, 0).ok());
    EXPECT_EQ(huge_pages_left(), before);
    const auto refused = driver_->power_on(instance);
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("pages of 2048 KiB"), std::string::npos)
        << refused.error().text();
}

TEST_F(VmmDriverTest, ThereIsNeverASecondProcessForOneGuest) {
    spawn(server("beat"));
    GuestProcessOptions options;
    options.vmm_path = environment("KUMOI_VMM");
    const GuestProcess other(options, folder(), clock_);
    const auto refused = other.start();
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Conflict);
    EXPECT_TRUE(process_alive(vmm_pid()));
    EXPECT_TRUE(path_exists(folder().control_socket()));
}

TEST_F(VmmDriverTest, AProcessThatDoesNotAnswerIsKilled) {
    const Instance instance = server("beat");
    spawn(instance);
    const pid_t pid = vmm_pid();
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    const auto info = driver_->get_info(instance);
    EXPECT_FALSE(info.ok());  // not "down": it may only be slow
    ASSERT_TRUE(driver_->power_off(instance, 0).ok());
    EXPECT_FALSE(process_alive(pid));
    EXPECT_EQ(power(instance), power_states::kShutdown);
}

TEST_F(VmmDriverTest, AProcessWithoutItsRecordIsFoundByItsPidFile) {
    const Instance instance = server("beat");
    spawn(instance);
    const pid_t pid = vmm_pid();
    ASSERT_TRUE(remove_file(folder().process()).ok());
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    ASSERT_TRUE(driver_->destroy(instance).ok());
    EXPECT_FALSE(process_alive(pid));
    EXPECT_FALSE(folder().exists());
}

// A persistent TAP of this test's own; gone with it.
class TestTap {
public:
    explicit TestTap(std::string name) : made(create_tap(name, -1).ok()), name_(std::move(name)) {}
    ~TestTap() { (void)delete_link(name_); }
    TestTap(const TestTap&) = delete;
    TestTap& operator=(const TestTap&) = delete;
    const bool made;

private:
    const std::string name_;
};

VifInfo vif(const std::string& tap, int number) {
    VifInfo vif;
    vif.port_id = fmt::format("{:08}-0000-4000-8000-000000000000", number);
    vif.tap_name = tap;
    vif.mac = fmt::format("fa:16:3e:00:00:{:02x}", number);
    return vif;
}

bool has_card(const InstanceFolder& folder, const char* id) {
    auto control = hypervisor::ControlClient::connect(folder.control_socket(), 2000).value();
    const Json all = control.call("statistics", Json::object(), 2000).value();
    return all.find("devices")->contains(id);
}

TEST_F(VmmDriverTest, ACardComesToARunningGuestAndGoesFromAStoppedOne) {
    const TestTap first("kvtest0");
    const TestTap second("kvtest1");
    if (!first.made || !second.made) {
        GTEST_SKIP() << "TAP devices cannot be made here";
    }
    Instance instance = server("beat");
    instance.network_info = {vif("kvtest0", 1)};
    spawn(instance);
    const InstanceFolder folder(directory_.path() + "/i", kUuid);
    const auto config = [&] { return read_file(folder.guest_config()).value(); };
    EXPECT_TRUE(has_card(folder, "net0"));
    instance.network_info.push_back(vif("kvtest1", 2));
    assign_nic_slots(instance.network_info);
    for (int twice = 0; twice < 2; ++twice) {
        const auto attached = driver_->attach_interface(instance, instance.network_info[1]);
        ASSERT_TRUE(attached.ok()) << attached.error().text();
    }
    EXPECT_TRUE(has_card(folder, "net1"));

    // A guest that knows nothing of hot-plug never lets go: refused, and all is as it was.
    Instance without = instance;
    without.network_info.erase(without.network_info.begin());
    const auto kept = driver_->detach_interface(without, instance.network_info[0]);
    ASSERT_FALSE(kept.ok());
    EXPECT_EQ(kept.error().fault, "InterfaceDetachFailed");
    EXPECT_NE(kept.error().message.find("2 times"), std::string::npos) << kept.error().text();
    EXPECT_NE(config().find("net0"), std::string::npos);
    ASSERT_TRUE(driver_->pause(instance).ok());
    const auto paused = driver_->detach_interface(without, instance.network_info[0]);
    EXPECT_NE(paused.error().message.find("paused"), std::string::npos);
    ASSERT_TRUE(driver_->unpause(instance).ok());

    // Stopped, it goes at once; the other one stays where it is.
    ASSERT_TRUE(driver_->power_off(instance, 0).ok());
    ASSERT_TRUE(driver_->detach_interface(without, instance.network_info[0]).ok());
    ASSERT_TRUE(driver_->power_on(without).ok());
    EXPECT_FALSE(has_card(folder, "net0"));
    EXPECT_TRUE(has_card(folder, "net1"));
    EXPECT_NE(config().find("\"slot\": 4"), std::string::npos) << config();
}

}  // namespace
}  // namespace kumoi::compute
