#include "api/cli/server_launch.h"

#include <algorithm>
#include <tuple>

#include "api/cli/find.h"
#include "api/cli/server_waiting.h"
#include "base/digest.h"
#include "base/file.h"

namespace kumoi::cli {
namespace {

constexpr int64_t kGib = int64_t{1} << 30;
constexpr size_t kUserDataBytesMax = 48 * 1024;  // 64 KiB as base64, Nova's limit

int64_t disk_needed_gb(const Json& image) {
    const int64_t bytes = std::max(image.integer_or("virtual_size"), image.integer_or("size"));
    return std::max(image.integer_or("min_disk"), (bytes + kGib - 1) / kGib);
}

bool fits(const Json& flavor, const Json& image) {
    const int64_t disk = flavor.integer_or("disk");
    // A flavor with disk 0 takes the image's own size.
    return flavor.integer_or("ram") >= image.integer_or("min_ram") &&
           (disk == 0 || disk >= disk_needed_gb(image));
}

Result<Json> server_body(Session& session, const LaunchOptions& options, const Json& image,
                         const Json& flavor) {
    Cloud* cloud = TRY(session.cloud());
    Json server = Json::object({{"name", options.name},
                                {"imageRef", image.string_or("id")},
                                {"flavorRef", flavor.string_or("id")}});
    const auto networks = TRY(cloud->list("network", "/networks", "networks"));
    if (options.networks.empty()) {
        server.set("networks", TRY(choose_network(networks)));
    } else {
        Json chosen = Json::array();
        for (const std::string& wanted : options.networks) {
            const Json network = TRY(find_one("network", networks, wanted));
            chosen.push_back(Json::object({{"uuid", network.string_or("id")}}));
        }
        server.set("networks", std::move(chosen));
    }
    if (!options.key_name.empty()) {
        server.set("key_name", options.key_name);
    }
    if (!options.availability_zone.empty()) {
        server.set("availability_zone", options.availability_zone);
    }
    if (!options.user_data_file.empty()) {
        const auto text = TRY(read_file(options.user_data_file, kUserDataBytesMax));
        server.set("user_data", base64_encode(text));
    }
    if (options.config_drive) {
        server.set("config_drive", true);
    }
    return Json::object({{"server", std::move(server)}});
}

std::string seconds_text(int64_t nanoseconds) {
    return fmt::format("{:.1f} s",
                       static_cast<double>(nanoseconds) / static_cast<double>(kNanosPerSecond));
}

Result<void> show_launched(Session& session, const Json& server, int64_t elapsed_ns) {
    const std::string name = server.string_or("name");
    session.out.say(fmt::format(" {}  active in {}  {}", name, seconds_text(elapsed_ns),
                                first_address(server)));
    session.out.say(fmt::format(" console: kumoi server console {}", name));
    Json shown = server;
    shown.set("address", first_address(server));
    return session.out.record(
        {{"ID", "id"}, {"NAME", "name"}, {"STATUS", "status"}, {"ADDRESS", "address"}}, shown);
}

}  // namespace

Result<Json> choose_flavor(const Json::Array& flavors, const Json& image) {
    const auto size_of = [](const Json& flavor) {
        return std::tuple(flavor.integer_or("ram"), flavor.integer_or("vcpus"),
                          flavor.integer_or("disk"), flavor.string_or("name"));
    };
    const Json* best = nullptr;
    for (const Json& flavor : flavors) {
        if (fits(flavor, image) && (best == nullptr || size_of(flavor) < size_of(*best))) {
            best = &flavor;
        }
    }
    if (best == nullptr) {
        return Error::exhausted(
                   "Image {} needs {} MiB of memory and {} GiB of disk; none of {} flavors has it.",
                   image.string_or("name"), image.integer_or("min_ram"), disk_needed_gb(image),
                   flavors.size())
            .with_hint("See: kumoi flavor list");
    }
    return *best;
}

Result<Json> choose_network(const Json::Array& networks) {
    std::vector<const Json*> usable;
    for (const Json& network : networks) {
        if (!network.bool_or("router:external") && network.bool_or("admin_state_up", true)) {
            usable.push_back(&network);
        }
    }
    if (usable.empty()) {
        return Json("none");
    }
    if (usable.size() > 1) {
        std::string names;
        for (const Json* network : usable) {
            names += (names.empty() ? "" : ", ") + network->string_or("name");
        }
        return Error::invalid("There are {} networks: {}.", usable.size(), names)
            .with_hint("Choose with --network.");
    }
    Json chosen = Json::array();
    chosen.push_back(Json::object({{"uuid", usable.front()->string_or("id")}}));
    return chosen;
}

Result<void> launch_server(Session& session, const LaunchOptions& options) {
    Cloud* cloud = TRY(session.cloud());
    const int64_t begin = session.clock().monotonic_ns();
    const Json image =
        TRY(find_one("image", TRY(cloud->list("image", "/images", "images")), options.image));
    const auto flavors = TRY(cloud->list("compute", "/flavors/detail", "flavors"));
    const Json flavor = options.flavor.empty() ? TRY(choose_flavor(flavors, image))
                                               : TRY(find_one("flavor", flavors, options.flavor));
    session.out.say(fmt::format(" image {}   flavor {} ({} vCPU, {} MiB, {} GiB)",
                                image.string_or("name"), flavor.string_or("name"),
                                flavor.integer_or("vcpus"), flavor.integer_or("ram"),
                                flavor.integer_or("disk")));
    const Json body = TRY(server_body(session, options, image, flavor));
    const Json answer = TRY(cloud->post("compute", "/servers", body));
    const Json* made = answer.find("server");
    const std::string id = made == nullptr ? "" : made->string_or("id");
    if (session.options.no_wait) {
        return session.out.record({{"ID", "id"}}, Json::object({{"id", id}}));
    }
    const Json server = TRY(wait_for_server(session, id, [](const Json& seen) -> Result<bool> {
        if (seen.string_or("status") == "ERROR") {
            return fault_of(seen);
        }
        return seen.string_or("status") == "ACTIVE";
    }));
    return show_launched(session, server, session.clock().monotonic_ns() - begin);
}

}  // namespace kumoi::cli
