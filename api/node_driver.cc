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
        node.inject_nmi = [driver = node.driver.get()](const compute::Instance& instance) {
            const auto info = driver->get_info(instance);
            return info.ok() ? Result<void>() : Result<void>(info.error());
        };
        return node;
    }
    auto options = TRY(compute::KumoiDriverOptions::from_config(config));
    node.keeps_qcow2 = options.disk.use_cow_images && !options.force_raw_images;
    const std::string cache_folder = options.instances_path + "/_base";
    node.image_cache = std::make_unique<compute::ImageCache>(
        compute::ImageCacheOptions{.directory = cache_folder, .img_path = options.disk.img_path},
        images, clock);
    auto driver = std::make_unique<compute::KumoiVmmDriver>(std::move(options), images,
                                                            *node.image_cache, clock, random);
    node.inject_nmi = [driver = driver.get()](const compute::Instance& instance) {
        return driver->inject_nmi(instance);
    };
    node.upgrade_guest = [driver = driver.get()](const std::string& uuid, bool dry_run) {
        return driver->upgrade_guest(uuid, dry_run);
    };
    node.driver = std::move(driver);
    return node;
}

}  // namespace kumoi::api
