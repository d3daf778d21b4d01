// What vCPUs and this process write while memory is copied. Those with guests need /dev/kvm.
#include "hypervisor/kvm/kvm_dirty_log.h"

#include <atomic>
#include <cstring>
#include <thread>

#include <gtest/gtest.h>

#include "hypervisor/kvm/dirty_ring.h"
#include "hypervisor/kvm/kvm_platform.h"
#include "hypervisor/vcpu/vcpu.h"
#include "hypervisor/vcpu/vcpu_state.h"

namespace kumoi::hypervisor {
namespace {

using Kind = KvmDirtyLog::Kind;
constexpr uint64_t kPage = PageBitmap::kPageSize;

// --- Without KVM ---

class RingTest : public ::testing::Test {
protected:
    // What KVM does: the next entry, whatever is in it.
    void push(uint32_t slot, uint64_t page) {
        entries[dirty_index++ % entries.size()] = {KVM_DIRTY_GFN_F_DIRTY, slot, page};
    }
    // KVM_RESET_DIRTY_RINGS.
    void reset() {
        uint64_t count = 0;
        for (; entries[reset_index % entries.size()].flags == KVM_DIRTY_GFN_F_RESET; ++count) {
            entries[reset_index++ % entries.size()].flags = 0;
        }
        ring.returned(count);
    }
    bool harvest() {
        seen.clear();
        const bool complete =
            ring.harvest([&](uint32_t slot, uint64_t page) { seen.push_back(slot * 100 + page); });
        reset();
        EXPECT_FALSE(ring.owes());
        return complete;
    }
    std::vector<kvm_dirty_gfn> entries = std::vector<kvm_dirty_gfn>(8);
    DirtyRing ring{entries};
    uint64_t dirty_index = 0;
    uint64_t reset_index = 0;
    std::vector<uint64_t> seen;
};

TEST_F(RingTest, TakesWhatIsThereInOrderAndGoesAround) {
    EXPECT_TRUE(harvest());
    EXPECT_TRUE(seen.empty());
    push(1, 7);
    push(2, 8);
    EXPECT_TRUE(harvest());
    EXPECT_EQ(seen, (std::vector<uint64_t>{107, 208}));
    for (uint64_t page = 0; page < 7; ++page) {
        push(0, page);
    }
    EXPECT_TRUE(harvest());
    EXPECT_EQ(seen, (std::vector<uint64_t>{0, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(ring.harvested(), 9u);
    EXPECT_EQ(reset_index, dirty_index);
}

TEST_F(RingTest, SeesThatItWasRunOverAndLeadsKvmOnUntilItsRingIsFullNoMore) {
    push(0, 1);
    EXPECT_TRUE(harvest());
    for (uint64_t page = 0; page < 45; ++page) {  // several times round
        push(0, page);
    }
    EXPECT_FALSE(harvest());
    while (dirty_index - reset_index > 6) {  // what KVM calls full
        ring.lead_on();
        reset();
        EXPECT_FALSE(ring.owes());
        ASSERT_GE(dirty_index, reset_index);
    }
}

class SlotsTest : public ::testing::Test {
protected:
    MemorySlots slots{[this](uint32_t number, const MemorySlots::Slot& slot) -> Result<void> {
        if (number == refused && slot.logged) {
            return Error::internal("no");
        }
        calls.push_back({number, slot.region.size, slot.logged});
        return {};
    }};
    struct Call {
        uint32_t number;
        uint64_t size;
        bool logged;
        bool operator==(const Call&) const = default;
    };
    MemoryRegion at(uint64_t offset, uint64_t size) {
        return {offset, size, offset, memory.data() + offset};
    }
    std::vector<uint32_t> logged() {
        std::vector<uint32_t> numbers;
        EXPECT_TRUE(slots
                        .for_each_logged([&](uint32_t number, const MemorySlots::Slot&) {
                            numbers.push_back(number);
                            return Result<void>();
                        })
                        .ok());
        return numbers;
    }
    std::vector<std::byte> memory = std::vector<std::byte>(16 * kPage);
    std::vector<std::byte> other = std::vector<std::byte>(kPage);
    std::vector<Call> calls;
    uint32_t refused = UINT32_MAX;
};

TEST_F(SlotsTest, LogsTheMemoryFileAndWhatOfItComesLater) {
    ASSERT_TRUE(slots.add(0, at(0, 4 * kPage), false).ok());
    ASSERT_TRUE(slots.add(1, at(4 * kPage, kPage), true).ok());          // read only
    ASSERT_TRUE(slots.add(2, {0, kPage, 0, other.data()}, false).ok());  // a frame buffer
    EXPECT_TRUE(logged().empty());
    ASSERT_TRUE(slots.start_logging(memory).ok());
    EXPECT_EQ(logged(), (std::vector<uint32_t>{0}));
    ASSERT_TRUE(slots.add(256, at(8 * kPage, kPage), false).ok());
    EXPECT_EQ(calls.back(), (Call{256, kPage, true}));
    EXPECT_EQ(logged(), (std::vector<uint32_t>{0, 256}));
    ASSERT_TRUE(slots.remove(256).ok());
    EXPECT_EQ(calls.back(), (Call{256, 0, false}));
    ASSERT_TRUE(slots.stop_logging().ok());
    EXPECT_EQ(calls.back(), (Call{0, 4 * kPage, false}));
    EXPECT_TRUE(logged().empty());
    EXPECT_FALSE(slots.remove(7).ok());
}

TEST_F(SlotsTest, AFailureLeavesNothingLogged) {
    refused = 1;
    ASSERT_TRUE(slots.add(0, at(0, kPage), false).ok());
    ASSERT_TRUE(slots.add(1, at(kPage, kPage), false).ok());
    ASSERT_TRUE(slots.add(2, at(2 * kPage, kPage), false).ok());
    EXPECT_FALSE(slots.start_logging(memory).ok());
    EXPECT_TRUE(logged().empty());
    EXPECT_EQ(calls.back(), (Call{0, kPage, false}));
    ASSERT_TRUE(slots.add(3, at(3 * kPage, kPage), false).ok());
    EXPECT_EQ(calls.back(), (Call{3, kPage, false}));
}

// --- Guests ---

// Adds one to the first word of `count` pages from `first` on, says so at port 0x10, and again.
std::vector<uint8_t> page_writer(uint32_t first, uint32_t count) {
    std::vector<uint8_t> code = {0xbf, 0,    0,    0,    0,    0xb9, 0,    0, 0,
                                 0,    0xff, 0x07, 0x81, 0xc7, 0,    0x10, 0, 0,
                                 0x49, 0x75, 0xf5, 0xe6, 0x10, 0xeb, 0xe7};
    const uint32_t address = first * kPage;
    std::memcpy(code.data() + 1, &address, sizeof address);
    std::memcpy(code.data() + 6, &count, sizeof count);
    return code;
}

class DirtyLogTest : public ::testing::TestWithParam<Kind> {
protected:
    static constexpr uint64_t kMemory = 16u << 20;
    static constexpr uint32_t kRing = 1024;
    static constexpr uint32_t kCode = 1;  // page
    static constexpr int64_t kLong = 30'000'000'000;

    // Counts rounds; parks the vCPU after each where it is asked to.
    class Port final : public IoDevice {
    public:
        std::string name() const override { return "round"; }
        void io_read(uint64_t, std::span<uint8_t>) override {}
        void io_write(uint64_t, std::span<const uint8_t>) override {
            rounds.fetch_add(1);
            if (stop_after_round) {
                vcpu.load()->request_pause();
            }
        }
        std::atomic<Vcpu*> vcpu{nullptr};
        std::atomic<uint64_t> rounds{0};
        std::atomic<bool> stop_after_round{true};
    };

    void SetUp() override {
        auto opened = Kvm::open(direct_files());
        if (!opened) {
            GTEST_SKIP() << "needs /dev/kvm: " << opened.error().text();
        }
        kvm = std::move(opened).value();
        if (GetParam() == Kind::Ring &&
            !KvmDirtyLog::choose(KvmDirtyLog::offer_of(*kvm), DirtyTracking::Ring, {}).ok()) {
            GTEST_SKIP() << "this KVM has no dirty ring";
        }
        vm = KvmVm::create(*kvm).value();
        memory = GuestMemory::create(kMemory).value();
        log = KvmDirtyLog::create(*kvm, *vm, *memory, GetParam(), kRing).value();
        ASSERT_TRUE(vm->add_memory(0, memory->regions().front()).ok());
        platform = std::make_unique<KvmPlatform>(*vm, *memory, KvmPlatform::Requests{[] {}, [] {}});
        ASSERT_TRUE(platform->install_fixed_routes().ok());
        ASSERT_TRUE(platform->port_bus().add(0x10, 1, port).ok());
        copy.resize(kMemory);
        dirty = PageBitmap(log->pages());
    }
    void start_guest(uint32_t first, uint32_t count) {
        const auto code = page_writer(first, count);
        ASSERT_TRUE(memory->write(kCode * kPage, std::as_bytes(std::span(code))).ok());
        VcpuFd fd = vm->create_vcpu(0).value();
        ASSERT_TRUE(apply_entry_point(fd, {EntryMode::Protected32, kCode * kPage, 0}).ok());
        vcpu = std::make_unique<Vcpu>(
            0, std::move(fd), platform->port_bus(), platform->mmio_bus(), *memory,
            Vcpu::Events{.crashed = [this](const CrashReport& report) { crash = report.reason; },
                         .triple_fault = [] {},
                         .shutdown = [] {},
                         .reset = [] {},
                         .dirty_ring_full =
                             [this](uint32_t index) {
                                 full.fetch_add(1);
                                 return log->ring_full(index);
                             }});
        port.vcpu = vcpu.get();
        ASSERT_TRUE(Vcpu::install_kick_handler().ok());
        ASSERT_TRUE(vcpu->start().ok());
    }
    // A KVM that emulates the guest looks whether a ring is full when it is entered, and no sooner:
    // what is written before must fit into the entries it keeps free.
    static uint32_t pages_a_round(uint32_t otherwise) {
        return GetParam() == Kind::Ring ? 50 : otherwise;
    }
    void run_one_round() {
        const uint64_t before = port.rounds;
        vcpu->resume();
        while (port.rounds == before) {
            std::this_thread::yield();
        }
        ASSERT_TRUE(vcpu->wait_parked(kLong));
        ASSERT_EQ(crash, "");
    }
    void copy_run(const PageRun& run) {
        ASSERT_TRUE(log->rearm(run.first, run.count).ok());
        std::memcpy(copy.data() + run.first * kPage,
                    memory->file_bytes().data() + run.first * kPage, run.count * kPage);
    }
    // One round of a migration: what is dirty, in small runs.
    void copy_dirty() {
        for (auto run = dirty.next_run(0, 37); run;
             run = dirty.next_run(run->first + run->count, 37)) {
            copy_run(*run);
        }
        dirty.clear_all();
    }
    void expect_same() {
        for (uint64_t page = 0; page < log->pages(); ++page) {
            ASSERT_EQ(std::memcmp(copy.data() + page * kPage,
                                  memory->file_bytes().data() + page * kPage, kPage),
                      0)
                << "page " << page;
        }
    }

    std::optional<Kvm> kvm;
    std::optional<GuestMemory> memory;
    std::optional<KvmVm> vm;
    std::unique_ptr<KvmDirtyLog> log;
    std::unique_ptr<KvmPlatform> platform;
    Port port;
    std::string crash;
    std::atomic<int> full{0};
    std::unique_ptr<Vcpu> vcpu;
    std::vector<std::byte> copy;
    PageBitmap dirty{0};
};

TEST_P(DirtyLogTest, TellsWhatAVcpuWroteSinceItWasRearmed) {
    constexpr uint32_t kFirst = 300;
    const uint32_t count = pages_a_round(1500);
    start_guest(kFirst, count);
    run_one_round();
    ASSERT_TRUE(log->start().ok());
    EXPECT_FALSE(log->start().ok());
    dirty.set_all();
    copy_dirty();
    ASSERT_TRUE(log->collect(dirty).ok());
    dirty.clear_all();  // before anything ran: a page or two of KVM's own at most
    for (int round = 0; round < 3; ++round) {
        run_one_round();
        ASSERT_TRUE(log->collect(dirty).ok());
        for (uint32_t page = kFirst; page < kFirst + count; ++page) {
            ASSERT_TRUE(dirty.test(page)) << page;
        }
        EXPECT_LE(dirty.count(), count + 8u);
        copy_dirty();
        expect_same();
        ASSERT_TRUE(log->collect(dirty).ok());
        EXPECT_LE(dirty.count(), 8u) << "nothing ran since";
        dirty.clear_all();
    }
    if (GetParam() == Kind::Ring) {
        EXPECT_GE(log->dirtied_by(0).value(), 3u * count);
    }
    log->stop();
    run_one_round();  // and a guest that nobody watches goes on
    EXPECT_EQ(port.rounds, 5u);
}

// The real thing: vCPU and devices write as they like while memory is copied round after round;
// after both stand still and one more round, the copy is the memory.
TEST_P(DirtyLogTest, ACopyOfARunningGuestMissesNoWrite) {
    constexpr uint64_t kOwnPages = 200;
    start_guest(300, pages_a_round(3000));
    for (int again = 0; again < 2; ++again) {
        port.stop_after_round = false;
        std::atomic<bool> stop{false};
        const uint64_t rounds = port.rounds;
        const uint64_t min_rounds = GetParam() == Kind::Ring ? 100 : 2;
        vcpu->resume();
        std::thread device([&] {
            for (uint64_t i = 0; !stop; ++i) {
                const uint64_t gpa = (10 + i * 7 % kOwnPages) * kPage + i % 1000;
                EXPECT_TRUE(memory->store(gpa, i).ok());
                EXPECT_TRUE(i % 16 != 0 ||
                            memory->discard((250 + i / 16 % 20) * kPage, kPage).ok());
                EXPECT_TRUE(memory->fill((250 + i % 20) * kPage + 64, 64, std::byte{7}).ok());
            }
        });
        ASSERT_TRUE(log->start().ok());
        dirty.set_all();
        for (int round = 0; round < 8 || port.rounds < rounds + min_rounds; ++round) {
            copy_dirty();
            ASSERT_TRUE(log->collect(dirty).ok());
        }
        vcpu->request_pause();
        ASSERT_TRUE(vcpu->wait_parked(kLong));
        stop = true;
        device.join();
        ASSERT_TRUE(log->collect(dirty).ok());
        copy_dirty();
        expect_same();
        log->stop();
        ASSERT_EQ(crash, "");
    }
    EXPECT_GT(port.rounds, 0u);
}

TEST_P(DirtyLogTest, MemoryThatComesAndGoesIsSeen) {
    HotMemoryPlan hot{.base = 1u << 30, .size = 4u << 20, .block_size = 2u << 20};
    memory = GuestMemory::create({.size = kMemory, .hot = hot}, system_memory_host()).value();
    vm.emplace(KvmVm::create(*kvm).value());
    log = KvmDirtyLog::create(*kvm, *vm, *memory, GetParam(), kRing).value();
    platform = std::make_unique<KvmPlatform>(*vm, *memory, KvmPlatform::Requests{[] {}, [] {}});
    ASSERT_TRUE(vm->add_memory(0, memory->regions().front()).ok());
    ASSERT_TRUE(platform->install_fixed_routes().ok());
    ASSERT_TRUE(platform->port_bus().add(0x10, 1, port).ok());
    ASSERT_TRUE(memory->plug_hot(0).ok());
    start_guest((hot.base + hot.block_size) / kPage, 512);
    ASSERT_TRUE(log->start().ok());
    dirty = PageBitmap(log->pages());
    ASSERT_TRUE(log->rearm(0, log->pages()).ok());
    ASSERT_TRUE(log->collect(dirty).ok());
    dirty.clear_all();
    ASSERT_TRUE(memory->plug_hot(1).ok());
    auto mapped = platform->map_memory(hot.base + hot.block_size, memory->hot_bytes(1),
                                       GuestAccess::ReadWrite);
    ASSERT_TRUE(mapped.ok());
    ASSERT_TRUE(log->rearm(0, log->pages()).ok());
    ASSERT_TRUE(log->collect(dirty).ok());
    const uint64_t first = memory->boot_size() / kPage + 512;
    EXPECT_EQ(dirty.count(first, 512), 512u) << "it became zero";
    dirty.clear_all();
    run_one_round();
    ASSERT_TRUE(log->collect(dirty).ok());
    EXPECT_EQ(dirty.count(first, 512), 512u);
    dirty.clear_all();
    ASSERT_TRUE(log->rearm(first, 512).ok());
    mapped->reset();
    ASSERT_TRUE(memory->unplug_hot(1).ok());
    ASSERT_TRUE(log->collect(dirty).ok());
    EXPECT_EQ(dirty.count(first, 512), 512u) << "it is zero again";
}

// It is told, never passed over in silence; and the guest goes on.
TEST_P(DirtyLogTest, ARingThatRunsOverIsNoUse) {
    if (GetParam() != Kind::Ring) {
        GTEST_SKIP() << "of rings";
    }
    start_guest(300, 3000);
    ASSERT_TRUE(log->start().ok());
    run_one_round();
    run_one_round();
    const auto collected = log->collect(dirty);
    if (collected.ok()) {  // a KVM that stops in time
        EXPECT_EQ(dirty.count(300, 3000), 3000u);
        EXPECT_GT(full, 0);
        return;
    }
    EXPECT_EQ(collected.error().code, ErrorCode::Unsupported);
    EXPECT_FALSE(log->collect(dirty).ok());
    run_one_round();
    log->stop();
    run_one_round();
    EXPECT_EQ(port.rounds, 4u);
    EXPECT_FALSE(log->start().ok());
    EXPECT_FALSE(memory->marking());
}

std::string name_of(const ::testing::TestParamInfo<Kind>& info) {
    return info.param == Kind::Plain ? "Plain" : info.param == Kind::Manual ? "Manual" : "Ring";
}
INSTANTIATE_TEST_SUITE_P(Kinds, DirtyLogTest,
                         ::testing::Values(Kind::Plain, Kind::Manual, Kind::Ring), name_of);

}  // namespace
}  // namespace kumoi::hypervisor
