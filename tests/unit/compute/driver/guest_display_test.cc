#include "compute/driver/guest_display.h"

#include <gtest/gtest.h>

#include "compute/driver/guest_config.h"

namespace kumoi::compute {
namespace {

Instance server(const Properties& image) {
    Instance instance;
    instance.uuid = "11111111-2222-4333-8444-555555555555";
    instance.image_id = instance.image.id = "image";
    instance.image.properties = image;
    instance.flavor.memory_mb = 512;
    instance.flavor.vcpus = 1;
    return instance;
}

std::optional<Json> display_of(const Properties& image,
                               const DisplayOptions& options = {true, "rom"},
                               const Properties& extra_specs = {}) {
    Instance instance = server(image);
    instance.flavor.extra_specs = extra_specs;
    EXPECT_TRUE(check_display(instance).ok());
    const InstanceFolder folder("/i", instance.uuid);
    GuestOptions guest;
    guest.display = options;
    const Json config = guest_config(instance, folder, {}, guest);
    const Json* display = config.find("display");
    return display == nullptr ? std::nullopt : std::optional(*display);
}

TEST(GuestDisplay, IsThereWhenFirmwareBoots) {
    const auto bios = display_of({});
    ASSERT_TRUE(bios);
    EXPECT_EQ(bios->string_or("vgabios"), "rom");
    EXPECT_EQ(bios->find("memory_mib")->dump(), "16");
    EXPECT_EQ(bios->find("vnc")->dump(),
              R"([{"socket":"/i/11111111-2222-4333-8444-555555555555/vnc.sock"}])");
    const auto uefi = display_of({{"hw_firmware_type", "uefi"}});
    ASSERT_TRUE(uefi);
    EXPECT_EQ(uefi->find("vgabios"), nullptr);
    EXPECT_EQ(display_of({}, {true, ""})->find("vgabios"), nullptr);
}

TEST(GuestDisplay, IsNotThereWhenAKernelBootsOrNobodyWantsIt) {
    EXPECT_FALSE(display_of({{"kernel_id", "k"}}));
    EXPECT_FALSE(display_of({{"hw_video_model", "none"}}));
    EXPECT_FALSE(display_of({}, {false, "rom"}));
    EXPECT_TRUE(display_of({{"kernel_id", "k"}, {"hw_video_model", "bochs"}}));
}

TEST(GuestDisplay, MemoryAndInputFollowTheImage) {
    EXPECT_EQ(display_of({{"hw_video_ram", "20"}}, {}, {{"hw_video:ram_max_mb", "64"}})
                  ->find("memory_mib")
                  ->dump(),
              "32");
    EXPECT_EQ(display_of({{"hw_video_ram", "1"}}, {}, {{"hw_video:ram_max_mb", "64"}})
                  ->find("memory_mib")
                  ->dump(),
              "16");
    EXPECT_EQ(display_of({})->find("tablet"), nullptr);
    EXPECT_EQ(display_of({{"hw_input_bus", "ps2"}})->find("tablet")->dump(), "false");
}

TEST(GuestDisplay, RefusesWhatIsNotHere) {
    for (const auto& [name, value] :
         Properties{{"hw_video_model", "qxl"}, {"hw_input_bus", "usb"}, {"hw_video_ram", "much"}}) {
        const auto refused = check_guest_supported(server({{name, value}}));
        ASSERT_FALSE(refused.ok());
        EXPECT_NE(refused.error().message.find(name + "=" + value), std::string::npos);
    }
    EXPECT_EQ(check_display(server({{"hw_video_ram", "8"}})).error().fault, "RequestedVRamTooHigh");
    Instance large = server({{"hw_video_ram", "128"}});
    large.flavor.extra_specs["hw_video:ram_max_mb"] = "256";
    EXPECT_FALSE(check_display(large).ok());
}

}  // namespace
}  // namespace kumoi::compute
