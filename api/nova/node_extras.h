// NodeExtras: what nova-compute offers beside the verbs of the manager: images fetched ahead of
// servers that boot from them, and a non-maskable interrupt that makes a guest's kernel dump
// itself. Any thread; blocks.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "api/nova/nova_conductor.h"
#include "compute/manager/image_api.h"
#include "compute/objects.h"

namespace kumoi::compute {
class ImageCache;
}

namespace kumoi::nova {

class NodeExtras {
public:
    using Interrupt = std::function<Result<void>(const compute::Instance&)>;

    // `cache`: null where nothing is kept (the simulated driver). `keep_qcow2`: root disks are
    // linked clones of images as they were stored.
    NodeExtras(NovaConductor& conductor, std::string host, compute::ImageApi& images,
               compute::ImageCache* cache, bool keep_qcow2, Interrupt inject_nmi,
               const Clock& clock);

    // For each image "cached" (it is here now), "existing" (it was), "error", or "unsupported".
    std::map<std::string, std::string> cache_images(const compute::RequestContext& context,
                                                    const std::vector<std::string>& images);
    // Of a server that was adopted. The action's event says how it went.
    Result<void> trigger_crash_dump(const compute::RequestContext& context,
                                    const std::string& uuid);

private:
    Result<std::string> cache_image(const compute::RequestContext& context,
                                    const std::string& image_id);

    NovaConductor& conductor_;
    const std::string host_;
    compute::ImageApi& images_;
    compute::ImageCache* const cache_;
    const bool keep_qcow2_;
    const Interrupt inject_nmi_;
    const Clock& clock_;
};

}  // namespace kumoi::nova
