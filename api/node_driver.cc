#include "api/node_driver.h"

#include "compute/driver/kumoi_vmm_driver.h"
#include "compute/driver/simulated_driver.h"

namespace kumoi::api {

Result<NodeDriver> make_node_driver(const Config& config, compute::ImageApi& images,
                                    const Clock& clock, Random& random, const std::string& stream) {
    NodeDriver node;
    if (config.string("DEFAULT", "compute_driver") == "simulated") {
        const auto seed = static_cast<uint64_t>(config.integer("simulated", "seed"));
        node.simulated_random = std::make_unique<SeededRandom>(seed, stream);
        node.driver = std::make_unique<compute::SimulatedDriver>(
            compute::SimulatedOptions::from_config(config), clock, *node.simulated_random);
        return node;
    }
    auto options = TRY(compute::KumoiDriverOptions::from_config(config));
    const std::string cache_folder = options.instances_path + "/_base";
    node.image_cache = std::make_unique<compute::ImageCache>(
        compute::ImageCacheOptions{.directory = cache_folder, .img_path = options.disk.img_path},
        images, clock);
    node.driver = std::make_unique<compute::KumoiVmmDriver>(std::move(options), images,
                                                            *node.image_cache, clock, random);
    return node;
}

}  // namespace kumoi::api
