// These need /dev/kvm; without it they say so and skip.
#include "hypervisor/kvm/kvm.h"

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"

#include "hypervisor/kvm/irq_routes.h"
#include "hypervisor/kvm/kvm_platform.h"
#include "hypervisor/vcpu/vcpu.h"
#include "hypervisor/vcpu/vcpu_state.h"

namespace kumoi::hypervisor {
namespace {

TEST(Kvm, SaysWhatToDoWhenItIsAbsent) {
    const auto kvm = Kvm::open(direct_files(), "/nonexistent/kvm");
    ASSERT_FALSE(kvm.ok());
    EXPECT_FALSE(kvm.error().hint.empty());
    EXPECT_FALSE(Kvm::open(direct_files(), "/dev/null").ok());
}

TEST(IrqRoutes, WiresThePicsAndTheTimerLikeAPc) {
    bool timer_on_pin_2 = false;
    for (const auto& entry : IrqRoutes::fixed_entries()) {
        EXPECT_NE(entry.gsi, 2u);
        if (entry.u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC) {
            EXPECT_EQ(entry.u.irqchip.pin, entry.gsi == 0 ? 2 : entry.gsi);
            timer_on_pin_2 = timer_on_pin_2 || entry.gsi == 0;
        }
    }
    EXPECT_TRUE(timer_on_pin_2);
}

class KvmTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto opened = Kvm::open(direct_files());
        if (!opened) {
            GTEST_SKIP() << "needs /dev/kvm: " << opened.error().text();
        }
        kvm = std::move(opened).value();
        vm = KvmVm::create(*kvm).value();
        memory = GuestMemory::create(2u << 20).value();
        ASSERT_TRUE(vm->add_memory(0, memory->regions().front()).ok());
        platform = std::make_unique<KvmPlatform>(*vm, *memory, KvmPlatform::Requests{[] {}, [] {}});
        ASSERT_TRUE(platform->install_fixed_routes().ok());
    }
    // A vCPU in 16-bit real mode at 0:0x1000.
    std::unique_ptr<Vcpu> vcpu_with(std::initializer_list<uint8_t> code, Vcpu::Events events) {
        const std::vector<uint8_t> bytes(code);
        EXPECT_TRUE(memory->write(0x1000, std::as_bytes(std::span(bytes))).ok());
        VcpuFd fd = vm->create_vcpu(0).value();
        kvm_sregs sregs = fd.sregs().value();
        sregs.cs.base = 0;
        sregs.cs.selector = 0;
        EXPECT_TRUE(fd.set_sregs(sregs).ok());
        kvm_regs regs{};
        regs.rip = 0x1000;
        regs.rflags = 2;
        EXPECT_TRUE(fd.set_regs(regs).ok());
        auto vcpu = std::make_unique<Vcpu>(0, std::move(fd), platform->port_bus(),
                                           platform->mmio_bus(), *memory, std::move(events));
        EXPECT_TRUE(Vcpu::install_kick_handler().ok());
        EXPECT_TRUE(vcpu->start().ok());
        return vcpu;
    }
    static constexpr int64_t kLong = 10'000'000'000;
    std::optional<Kvm> kvm;
    std::optional<GuestMemory> memory;
    std::optional<KvmVm> vm;
    std::unique_ptr<KvmPlatform> platform;
};

TEST_F(KvmTest, VectorsTakeRoutesAndGiveThemBack) {
    for (int round = 0; round < 3; ++round) {
        auto vector = platform->create_msi_vector();
        ASSERT_TRUE(vector.ok());
        EXPECT_TRUE((*vector)->set_route(0xfee0'0000, 0x41).ok());
        EXPECT_TRUE((*vector)->set_route(0xfee0'1000, 0x42).ok());
        (*vector)->trigger();
    }
    EXPECT_FALSE(platform->irq_line(24).ok());
    EXPECT_TRUE(platform->irq_line(4).ok());
}

TEST_F(KvmTest, DoorbellsAreRefusedTwice) {
    const UniqueFd bell = make_eventfd().value();
    EXPECT_TRUE(platform->add_doorbell(0xc000'3000, bell.get()).ok());
    EXPECT_FALSE(platform->add_doorbell(0xc000'3000, bell.get()).ok());
    platform->remove_doorbell(0xc000'3000, bell.get());
    EXPECT_TRUE(platform->add_doorbell(0xc000'3000, bell.get()).ok());
}

TEST_F(KvmTest, PausesASpinningGuestAndKeepsItsRegisters) {
    auto vcpu = vcpu_with({0x40, 0xeb, 0xfd}, {});  // inc ax; jmp -3
    vcpu->resume();
    for (int round = 0; round < 20; ++round) {
        vcpu->request_pause();
        ASSERT_TRUE(vcpu->wait_parked(kLong));
        const uint64_t rip = vcpu->fd().regs()->rip;
        EXPECT_TRUE(rip == 0x1000 || rip == 0x1001) << rip;
        vcpu->resume();
    }
}

TEST_F(KvmTest, RestsWhenAskedAndAPauseEndsIt) {
    auto vcpu = vcpu_with({0x40, 0xeb, 0xfd}, {});  // inc ax; jmp -3
    vcpu->rest(1);                                  // parked: it has rest already
    vcpu->resume();
    const SystemClock clock;
    const int64_t deadline = clock.monotonic_ns() + kLong;
    while (vcpu->statistics().rested_ns.value() == 0 && clock.monotonic_ns() < deadline) {
        vcpu->rest(1000);
        std::this_thread::yield();
    }
    EXPECT_GE(vcpu->statistics().rested_ns.value(), 1000u);
    vcpu->rest(1000 * kLong);
    vcpu->request_pause();
    ASSERT_TRUE(vcpu->wait_parked(kLong));
    EXPECT_LT(vcpu->statistics().rested_ns.value(), uint64_t{kLong});
    vcpu->resume();
    vcpu->rest(1000 * kLong);
    vcpu->request_stop();
    vcpu->join();
}

TEST_F(KvmTest, FinishesAPortReadBeforeItParks) {
    class Device final : public IoDevice {
    public:
        std::string name() const override { return "probe"; }
        void io_read(uint64_t, std::span<uint8_t> data) override {
            data[0] = 0x5a;
            // A pause that arrives while the guest waits for its answer.
            vcpu.load()->request_pause();
        }
        void io_write(uint64_t, std::span<const uint8_t>) override {}
        std::atomic<Vcpu*> vcpu{nullptr};
    } device;
    ASSERT_TRUE(platform->port_bus().add(0x10, 1, device).ok());
    auto vcpu = vcpu_with({0xe4, 0x10, 0xeb, 0xfe}, {});  // in al, 0x10; jmp .
    device.vcpu = vcpu.get();
    vcpu->resume();
    const SystemClock clock;
    const int64_t deadline = clock.monotonic_ns() + kLong;
    while (vcpu->statistics().exits[KVM_EXIT_IO].value() == 0 && clock.monotonic_ns() < deadline) {
        std::this_thread::yield();
    }
    ASSERT_TRUE(vcpu->wait_parked(kLong));
    EXPECT_EQ(vcpu->fd().regs()->rax & 0xff, 0x5au);
    EXPECT_EQ(vcpu->fd().regs()->rip, 0x1002u);
    vcpu->request_stop();
    vcpu->join();
}

TEST_F(KvmTest, ReportsATripleFaultAndParks) {
    std::atomic<int> faults{0};
    std::atomic<int> crashes{0};
    // ud2 with an empty IDT: #UD, #GP, #DF, shutdown.
    auto vcpu = vcpu_with({0x0f, 0x0b}, {.crashed = [&](const CrashReport&) { ++crashes; },
                                         .triple_fault = [&] { ++faults; },
                                         .shutdown = {},
                                         .reset = {}});
    ASSERT_TRUE(apply_entry_point(vcpu->fd(), {EntryMode::Protected32, 0x1000, 0}).ok());
    vcpu->resume();
    const SystemClock clock;
    const int64_t deadline = clock.monotonic_ns() + kLong;
    while (faults + crashes == 0 && clock.monotonic_ns() < deadline) {
        std::this_thread::yield();
    }
    EXPECT_EQ(faults, 1);
    EXPECT_EQ(crashes, 0);
    EXPECT_TRUE(vcpu->wait_parked(kLong));
}

TEST_F(KvmTest, ResetStateComesBackWhole) {
    VcpuFd fd = vm->create_vcpu(0).value();
    const VcpuResetState fresh = capture_reset_state(fd).value();
    ASSERT_TRUE(apply_entry_point(fd, {EntryMode::Protected32, 0x100000, 0x6000}).ok());
    EXPECT_EQ(fd.regs()->rbx, 0x6000u);
    EXPECT_EQ(fd.sregs()->cr0 & 1, 1u);
    ASSERT_TRUE(apply_reset_state(fd, fresh, true).ok());
    EXPECT_EQ(fd.sregs()->cr0, fresh.sregs.cr0);
    EXPECT_EQ(fd.regs()->rbx, 0u);
    EXPECT_EQ(fd.mp_state()->mp_state, static_cast<uint32_t>(KVM_MP_STATE_RUNNABLE));
}

}  // namespace
}  // namespace kumoi::hypervisor
