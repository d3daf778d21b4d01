// Which host CPUs our threads may use: pinned vCPUs, and I/O threads that are not to inherit that
// pinning from the vCPU thread that happened to start them.
#pragma once

#include <pthread.h>

#include "base/result.h"
#include "hypervisor/resources_config.h"

namespace kumoi::hypervisor {

// Invalid when the host has none of them, or this process may not use them.
Result<void> set_thread_affinity(pthread_t thread, const CpuList& cpus);

// Before any thread is made: what use_io_affinity() puts in place, on this thread at once. Empty:
// what this process was given.
Result<void> set_io_affinity(const CpuList& cpus);
// Called by every I/O thread for itself. Nothing before set_io_affinity().
void use_io_affinity();

}  // namespace kumoi::hypervisor
