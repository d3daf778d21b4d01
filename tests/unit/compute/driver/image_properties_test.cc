// The table of image properties, the page that shows it, and what the driver does, agree.
#include "compute/driver/image_properties.h"

#include <map>
#include <set>

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "compute/driver/guest_agent_channel.h"
#include "compute/driver/guest_config.h"

namespace kumoi::compute {
namespace {

using Handling = ImageProperty::Handling;

Instance server(const Properties& image) {
    Instance instance;
    instance.uuid = "11111111-2222-4333-8444-555555555555";
    instance.image_id = "image";
    instance.image.id = "image";
    instance.image.properties = image;
    instance.flavor.memory_mb = 512;
    instance.flavor.vcpus = 4;
    instance.flavor.root_gb = 1;
    VifInfo vif;
    vif.mac = "fa:16:3e:00:00:01";
    vif.tap_name = "tap1";
    instance.network_info = {vif};
    return instance;
}

std::string machine_of(const Properties& image) {
    GuestFiles files;
    files.rescue.emplace().image_properties = image;
    const InstanceFolder folder("/i", server(image).uuid);
    GuestOptions options;
    options.numa_nodes = {HostNumaNode{}};
    return guest_config(server(image), folder, {}, options).dump() +
           guest_config(server(image), folder, files, options).dump();
}

std::string row(const ImageProperty& property) {
    std::vector<std::string> values;
    for (const std::string_view value : property.values) {
        values.push_back(fmt::format("`{}`", value));
    }
    std::string what = "honoured";
    if (property.handling == Handling::Accepted) {
        what = fmt::format("only {}", fmt::join(values, ", "));
    } else if (property.handling != Handling::Honoured) {
        what = property.handling == Handling::Refused ? "refused" : "ignored";
    }
    return fmt::format("| `{}` | {} | {} |", property.name, what, property.why);
}

TEST(ImageProperties, ThePageHasExactlyTheTable) {
    const auto text = read_file("docs/reference/image-properties.md");  // ctest runs us in the root
    ASSERT_TRUE(text.ok()) << text.error().text();
    std::set<std::string> rows;
    for (size_t at = 0; (at = text->find("\n| `", at)) != std::string::npos; ++at) {
        rows.insert(text->substr(at + 1, text->find('\n', at + 1) - at - 1));
    }
    for (const ImageProperty& property : image_properties()) {
        EXPECT_EQ(rows.erase(row(property)), 1u) << "missing in the page: " << row(property);
    }
    EXPECT_TRUE(rows.empty()) << "not in the table: " << *rows.begin();
}

// api/nova/object_tables has the objects as Nova's releases define them.
TEST(ImageProperties, EveryHardwarePropertyOfNovaIsInTheTable) {
    std::set<std::string, std::less<>> known;
    for (const ImageProperty& property : image_properties()) {
        known.emplace(property.name);
    }
    for (const char* release : {"zed", "gazpacho"}) {
        const auto text = read_file(fmt::format("api/nova/object_tables/{}.txt", release));
        ASSERT_TRUE(text.ok()) << text.error().text();
        const size_t begin = text->find("\nImageMetaProps ");
        ASSERT_NE(begin, std::string::npos);
        const std::string fields = text->substr(begin, text->find("remotable", begin) - begin);
        size_t count = 0;
        for (size_t at = 0; (at = fields.find(" hw_", at)) != std::string::npos; ++at) {
            const std::string name = fields.substr(at + 1, fields.find(':', at) - at - 1);
            EXPECT_TRUE(known.contains(name)) << release << ": " << name;
            ++count;
        }
        EXPECT_GT(count, 40u);
    }
}

TEST(ImageProperties, WhatIsNotAcceptedIsRefusedByName) {
    for (const ImageProperty& property : image_properties()) {
        const std::string name(property.name);
        const bool fixed =
            property.handling == Handling::Accepted || property.handling == Handling::Refused;
        const auto refused = check_guest_supported(server({{name, "something-else"}}));
        if (fixed) {
            ASSERT_FALSE(refused.ok()) << name;
            EXPECT_NE(refused.error().message.find(name + "=something-else"), std::string::npos);
            EXPECT_FALSE(refused.error().hint.empty());
        } else if (property.handling == Handling::Ignored) {
            EXPECT_TRUE(refused.ok()) << name;
        }
        for (const std::string_view value : property.values) {
            EXPECT_TRUE(check_guest_supported(server({{name, std::string(value)}})).ok())
                << name << "=" << value;
        }
    }
    EXPECT_TRUE(check_guest_supported(server({{"hw_tpm_version", ""}})).ok() == false);
    EXPECT_TRUE(check_guest_supported(server({{"hw_ipxe_boot", "False"}})).ok());
}

TEST(ImageProperties, WhatIsIgnoredChangesNothing) {
    const std::string usual = machine_of({});
    for (const ImageProperty& property : image_properties()) {
        if (property.handling == Handling::Ignored) {
            EXPECT_EQ(machine_of({{std::string(property.name), "1"}}), usual) << property.name;
        }
    }
}

// Each honoured property with a value that changes the machine, or one that is refused.
TEST(ImageProperties, WhatIsHonouredIsSeenInTheMachineOrRefused) {
    struct Case {
        Properties with;     // changes the machine
        Properties refused;  // cannot be followed
    };
    const std::map<std::string, Case> cases = {
        {"hw_boot_menu", {{{"hw_boot_menu", "true"}}, {}}},
        {"hw_cpu_cores", {{{"hw_cpu_cores", "2"}}, {}}},
        {"hw_cpu_max_cores", {{{"hw_cpu_max_sockets", "1"}, {"hw_cpu_max_cores", "2"}}, {}}},
        {"hw_cpu_max_sockets", {{{"hw_cpu_max_sockets", "2"}}, {}}},
        {"hw_cpu_max_threads", {{}, {{"hw_cpu_max_threads", "x"}}}},
        {"hw_cpu_policy", {{}, {{"hw_cpu_policy", "mixed"}}}},
        {"hw_cpu_sockets", {{{"hw_cpu_sockets", "2"}}, {}}},
        {"hw_cpu_thread_policy", {{}, {{"hw_cpu_thread_policy", "x"}}}},
        {"hw_cpu_threads", {{{"hw_cpu_threads", "2"}}, {}}},
        {"hw_disk_bus", {{{"hw_disk_bus", "scsi"}}, {{"hw_disk_bus", "ide"}}}},
        {"hw_firmware_type", {{{"hw_firmware_type", "uefi"}}, {{"hw_firmware_type", "x"}}}},
        {"hw_input_bus", {{{"hw_input_bus", "ps2"}}, {{"hw_input_bus", "usb"}}}},
        {"hw_machine_type", {{}, {{"hw_machine_type", "pc-i440fx-7.2"}}}},
        {"hw_mem_page_size", {{}, {{"hw_mem_page_size", "x"}}}},
        {"hw_numa_cpus", {{}, {{"hw_numa_nodes", "2"}, {"hw_numa_cpus.0", "x"}}}},
        {"hw_numa_mem", {{}, {{"hw_numa_nodes", "2"}, {"hw_numa_mem.0", "x"}}}},
        {"hw_numa_nodes", {{}, {{"hw_numa_nodes", "x"}}}},
        {"hw_qemu_guest_agent", {{{"hw_qemu_guest_agent", "yes"}}, {}}},
        {"hw_rescue_bus", {{{"hw_rescue_bus", "scsi"}}, {{"hw_rescue_bus", "usb"}}}},
        {"hw_video_model", {{{"hw_video_model", "none"}}, {{"hw_video_model", "qxl"}}}},
        {"hw_video_ram", {{}, {{"hw_video_ram", "64"}}}},  // no flavor's limit
        {"hw_vif_multiqueue_enabled", {{{"hw_vif_multiqueue_enabled", "true"}}, {}}},
        {"hw_watchdog_action", {{{"hw_watchdog_action", "reset"}}, {{"hw_watchdog_action", "x"}}}},
        {"os_command_line", {{{"kernel_id", "k"}, {"os_command_line", "quiet"}}, {}}},
    };
    std::set<std::string> honoured;
    for (const ImageProperty& property : image_properties()) {
        if (property.handling != Handling::Honoured) {
            continue;
        }
        const std::string name(property.name);
        if (name.starts_with("os_admin_user") || name.starts_with("os_require_quiesce")) {
            continue;  // of what is done with a guest that runs, below
        }
        honoured.insert(name);
        ASSERT_TRUE(cases.contains(name)) << "no case shows that it is honoured: " << name;
        const auto& [with, refused] = cases.at(name);
        ASSERT_FALSE(with.empty() && refused.empty()) << name;
        if (!with.empty()) {
            Properties without = with;
            without.erase(name);
            EXPECT_TRUE(check_guest_supported(server(with)).ok()) << name;
            EXPECT_NE(machine_of(with), machine_of(without)) << name;
        }
        if (!refused.empty()) {
            EXPECT_FALSE(check_guest_supported(server(refused)).ok()) << name;
        }
    }
    EXPECT_EQ(honoured.size(), cases.size());
}

TEST(ImageProperties, WhatTheAgentInTheGuestIsAskedFor) {
    for (const char* yes : {"yes", "True", "1", "on"}) {
        EXPECT_TRUE(wants_guest_agent({{"hw_qemu_guest_agent", yes}})) << yes;
        EXPECT_TRUE(requires_quiesce({{"os_require_quiesce", yes}})) << yes;
    }
    for (const char* no : {"no", "False", "0", "", "maybe"}) {
        EXPECT_FALSE(wants_guest_agent({{"hw_qemu_guest_agent", no}})) << no;
        EXPECT_FALSE(requires_quiesce({{"os_require_quiesce", no}})) << no;
    }
    EXPECT_EQ(admin_user({}), "root");
    EXPECT_EQ(admin_user({{"os_type", "windows"}}), "Administrator");
    EXPECT_EQ(admin_user({{"os_type", "windows"}, {"os_admin_user", "me"}}), "me");
    EXPECT_NE(machine_of({{"hw_qemu_guest_agent", "yes"}})
                  .find(R"("channels":[{"name":"org.qemu.guest_agent.0","socket":"/i/)"),
              std::string::npos);
}

}  // namespace
}  // namespace kumoi::compute
