// open_overlay(): a new, empty qcow2 image for a running disk to go on in. Control thread.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "hypervisor/block/qcow2/qcow2_image.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

// `backing_name`: what the overlay calls the disk's present image; empty: its path.
Result<std::unique_ptr<qcow2::Store>> open_overlay(FileSource& files, Qcow2Image& image,
                                                   const std::string& path,
                                                   const std::string& backing_name);

}  // namespace kumoi::hypervisor
