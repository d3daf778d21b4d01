// Threads of saves and restores: named, and deaf to signals, which belong to the process's own.
#pragma once

#include <functional>
#include <thread>

#include "hypervisor/sandbox/thread_class.h"

namespace kumoi::hypervisor {

std::thread start_job_thread(const char* name, std::function<void()> body,
                             ThreadClass kind = ThreadClass::Snapshot);

}  // namespace kumoi::hypervisor
