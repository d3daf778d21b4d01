// What each kind of thread in a kumoi-vmm may ask the kernel for, and how a thread says its kind.
//
//     std::thread worker = start_thread(ThreadClass::Worker, [] { ... });
//
// close_seccomp() arms the process: it filters the calling (control) thread and, by inheritance,
// every later one; start_thread() narrows each of those to its kind. Before, and in a process that
// has no sandbox, a thread is just started, so devices and tests need not care. A thread can only
// ever lose rights, and only the control thread and one that does nothing else may start others: a
// vCPU thread that needs one asks that one. The list, with reasons: docs/reference/sandbox.md.
//
// The state is the process's own (seccomp is), hence not injected. close_seccomp() once, on the
// control thread, before it starts others; start_thread() from anywhere.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "hypervisor/sandbox/seccomp_filter.h"

// A sanitizer's run-time asks for more; it is only there in builds for tests.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KUMOI_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KUMOI_SANITIZED 1
#endif
#endif

namespace kumoi::hypervisor {

// Control: the loop. Io: a device's rings. Worker: a disk's blocking calls. Snapshot: a save or a
// restore that goes on while the guest runs. Migration: the streams of a guest that moves, its
// pages, its copied disks and its handover's journal.
enum class ThreadClass : uint8_t { Control, Vcpu, Io, Worker, Snapshot, Migration };
constexpr size_t kThreadClasses = 6;
enum class SeccompAction { Kill, Log };

std::string_view to_string(ThreadClass kind);

struct AllowedCall {
    std::string_view name;
    SyscallRule rule;
};
// `own_pid`: as this process sees itself (in its pid namespace); signals may go to it only.
std::vector<AllowedCall> allowed_calls(ThreadClass kind, uint32_t own_pid);

Result<void> close_seccomp(SeccompAction action);
bool seccomp_closed();
// As std::thread's constructor, and throws as it does. All signals are blocked on the new thread
// when it is started from a confined one. A thread that cannot be confined ends the process.
std::thread start_thread(ThreadClass kind, std::function<void()> function);
// For a thread that was started otherwise, on itself.
void enter_thread_class(ThreadClass kind);

}  // namespace kumoi::hypervisor
