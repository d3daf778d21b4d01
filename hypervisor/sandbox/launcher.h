// open_host_files(): opens what every machine needs (KVM, boot files, logs, its sockets) with the
// caller's rights, and puts it into the table that the sandboxed process lives on. What devices
// open in ways of their own (disks, TAPs, firmware) follows over the broker while they are made.
#pragma once

#include <string>
#include <vector>

#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/vm_config.h"

namespace kumoi::hypervisor {

// The socket files that were made come back; on an error they are removed again. Blocks for up to a
// second where a machine that was just killed still holds a socket. Sockets that are inherited
// (hypervisor/upgrade) are left to who has them.
Result<std::vector<std::string>> open_host_files(const VmConfig& config,
                                                 const std::string& control_socket,
                                                 PassedFiles& table,
                                                 const Heritage* heritage = nullptr);

// Where a restore notes what its guest touched first; without it the next restore is only slower.
void open_working_set(const std::string& snapshot, PassedFiles& table);

// I/O rings that the machine's disks may need, some for later ones included.
size_t rings_needed(const VmConfig& config);
// Threads it may need.
uint64_t threads_needed(const VmConfig& config);

}  // namespace kumoi::hypervisor
